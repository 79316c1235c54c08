-- Writes rows, all in one step. ARGV: writer, number, most events, most decisions, then operations, each a letter and its
-- arguments. A writer numbers its calls; a number that was seen is not done again, so that a call whose answer was lost
-- may be repeated. Writer "": no such memory. Answers with the values of "S" and "V".

local WRITER_TTL_S = 604800

local writer, number = ARGV[1], ARGV[2]
if writer ~= '' then
  local seen = redis.call('GET', P .. 'writer:' .. writer)
  if seen and tonumber(seen) >= tonumber(number) then
    return {}
  end
  redis.call('SET', P .. 'writer:' .. writer, number, 'EX', WRITER_TTL_S)
end

local place = 5

local function take(count)
  place = place + count
  return unpack(ARGV, place - count, place - 1)
end

-- Inserts or replaces a row and keeps its place in the order. Returns whether it was written, and whether it grew.
local function put_row(hash, id, revision, facts, row)
  local stored = redis.call('HGET', P .. hash, id)
  local order, grew
  if stored then
    local place_text, revision_text = string.match(stored, '^(%d+) (%-?%d+) ')
    order = place_text
    local change = amount(revision)
    grew = below(amount(revision_text), change)
    if below(change, amount(revision_text)) then
      return false, false
    end
  else
    order, grew = redis.call('INCR', P .. 'order'), true
  end
  redis.call('HSET', P .. hash, id, order .. ' ' .. revision .. ' ' .. facts .. '\n' .. row)
  return true, grew
end

local answers, events, decisions, used = {}, 0, 0, false

local operations = {
  K = function() -- key: id, revision, row
    local id, revision, row = take(3)
    local _, grew = put_row('keys', id, revision, '', row)
    if grew then
      publish('key', id)
    end
  end,
  D = function() -- delete a key: id
    local id = take(1)
    if redis.call('HDEL', P .. 'keys', id) == 1 then
      publish('key', id)
    end
  end,
  B = function() -- budget: id, "<limit> <mode> <status>", row
    local id, facts, row = take(3)
    put_row('budgets', id, '0', facts, row)
    publish('budget', id)
  end,
  V = function() -- virtual key: id, "1" for revoked (which is never replaced by one that is not) or "0", row, the row
    -- that it may replace or "" for any; answers with "1" if it was written, else "0"
    local id, revoked, row, expected = take(4)
    local allowed = true
    if expected ~= '' then
      local stored = redis.call('HGET', P .. 'virtual_keys', id)
      allowed = stored and string.match(stored, '^[^\n]*\n(.*)$') == expected
    end
    local written = allowed and put_row('virtual_keys', id, revoked, '', row)
    if written then
      publish('virtual_key', id)
    end
    answers[#answers + 1] = written and '1' or '0'
  end,
  S = function() -- setting: name, value, "1" for only if absent or "=" for only if it is the last word, that word
    local name, value, condition, expected = take(4)
    local command = condition == '1' and 'HSETNX' or 'HSET'
    local allowed = condition ~= '=' or redis.call('HGET', P .. 'settings', name) == expected
    if allowed and (redis.call(command, P .. 'settings', name, value) == 1 or command == 'HSET') then
      publish('setting', name)
    end
    answers[#answers + 1] = redis.call('HGET', P .. 'settings', name) or ''
  end,
  E = function() -- event: time, facts, row
    append('events', take(3))
    events = events + 1
  end,
  N = function() -- decision: time, facts, row
    append('decisions', take(3))
    decisions = decisions + 1
  end,
  U = function() -- usage: hour, facts, counters
    add_usage('hours', take(3))
    used = true
  end,
}

while place <= #ARGV do
  local letter = take(1)
  operations[letter]()
end
trim('events', tonumber(ARGV[3]), events)
trim('decisions', tonumber(ARGV[4]), decisions)
if used then
  age_usage(server_time())
end
return answers
