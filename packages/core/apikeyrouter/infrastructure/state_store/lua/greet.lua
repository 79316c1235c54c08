-- What every new connection runs first: answers with the id of this run of the server, and the number of the format of this
-- store's keys. After a new start, of this server or of another one in its place, the numbers of changes go on from
-- further ahead, since the last ones may have been forgotten: so every cursor from before finds a gap, and its owner looks
-- at everything anew. (Ahead: of what 1,000 changes a second could have reached.) A server that takes no writes now is
-- greeted all the same.

local AHEAD = 1000000
local FORMAT = '1'

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
if redis.call('GET', P .. 'run') ~= run then
  local number = tonumber(redis.call('GET', P .. 'changes_seq') or '0')
  number = math.max(number + AHEAD, math.floor(server_time()) * 1000)
  redis.pcall('MSET', P .. 'changes_seq', string.format('%.0f', number), P .. 'run', run)
end
redis.pcall('SETNX', P .. 'format', FORMAT)
return {run, redis.call('GET', P .. 'format') or FORMAT}
