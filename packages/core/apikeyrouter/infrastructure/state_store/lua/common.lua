-- What every script begins with. KEYS[1] is the prefix of all keys of this store, with its hash tag: whatever a script
-- touches lives in one slot. A row of a hash is "<order> <revision> <facts>" and a line break, then bytes that are
-- Python's (MessagePack).

local P = KEYS[1]
local CHANGES_MAX = 10000

local function server_time()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function publish(kind, id)
  local number = redis.call('INCR', P .. 'changes_seq')
  redis.call('XADD', P .. 'changes', 'MAXLEN', '~', CHANGES_MAX, string.format('%.0f-0', number), 'k', kind, 'i', id)
end
