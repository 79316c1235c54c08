-- The two logs, "events" and "decisions". After `common`. A line has a name: its number, with zeros before it, so that
-- names sort as numbers do.
-- <log>:time: names by time. <log>:rows: name -> row. <log>:facts: name -> MessagePack of what queries filter by; of a
-- decision: id, request, key, provider, sort key. decisions:ids: id -> name. decisions:requests: sort key .. name.

local DROP_MORE = 1000

local function drop(log, name)
  if log == 'decisions' then
    local facts = cmsgpack.unpack(redis.call('HGET', P .. 'decisions:facts', name))
    redis.call('HDEL', P .. 'decisions:ids', facts[1])
    redis.call('ZREM', P .. 'decisions:requests', facts[5] .. name)
  end
  redis.call('ZREM', P .. log .. ':time', name)
  redis.call('HDEL', P .. log .. ':rows', name)
  redis.call('HDEL', P .. log .. ':facts', name)
end

local function append(log, at, facts, row)
  local name = string.format('%016.0f', redis.call('INCR', P .. log .. ':seq'))
  if log == 'decisions' then
    local fields = cmsgpack.unpack(facts)
    local old = redis.call('HGET', P .. 'decisions:ids', fields[1])
    if old then
      drop(log, old)
    end
    redis.call('HSET', P .. 'decisions:ids', fields[1], name)
    redis.call('ZADD', P .. 'decisions:requests', 0, fields[5] .. name)
  end
  redis.call('ZADD', P .. log .. ':time', at, name)
  redis.call('HSET', P .. log .. ':rows', name, row)
  redis.call('HSET', P .. log .. ':facts', name, facts)
end

-- Drops the oldest lines above the maximum. Bounded: what is above a maximum that was lowered goes with later writes.
local function trim(log, lines_max, inserted)
  if inserted == 0 then
    return
  end
  local surplus = redis.call('ZCARD', P .. log .. ':time') - lines_max
  if surplus > 0 then
    local oldest = redis.call('ZRANGE', P .. log .. ':time', 0, math.min(surplus, inserted + DROP_MORE) - 1)
    for _, name in ipairs(oldest) do
      drop(log, name)
    end
  end
end
