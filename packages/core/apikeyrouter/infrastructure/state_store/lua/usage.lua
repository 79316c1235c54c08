-- Usage, added up by hour, later by day. After `common`, `amounts`.
-- usage:hours:<second>, usage:days:<second>: facts (JSON of Python) -> counters with spaces between. usage_hours,
-- usage_days: the seconds that exist. usage_folds: counts the times that hours became days.

local DAY_S = 86400
local HOURS_KEPT_S = 40 * DAY_S -- both as in `memory_feed.py`
local DAYS_KEPT_S = 400 * DAY_S
local HOURS_AT_ONCE = 24

local function add_usage(index, second, facts, counters)
  local key = P .. 'usage:' .. index .. ':' .. second
  local stored = redis.call('HGET', key, facts)
  if stored then
    local sums = {}
    local added = string.gmatch(counters, '[^ ]+')
    for before in string.gmatch(stored, '[^ ]+') do
      sums[#sums + 1] = text_of(plus(amount(before), amount(added())))
    end
    counters = table.concat(sums, ' ')
  else
    redis.call('ZADD', P .. 'usage_' .. index, second, second)
  end
  redis.call('HSET', key, facts, counters)
end

-- Makes days of hours that are older than 40 days, and forgets days that are older than 400. Bounded: the rest goes with
-- later calls.
local function age_usage(now)
  local today = math.floor(now / DAY_S) * DAY_S
  local before = '(' .. string.format('%.0f', today - HOURS_KEPT_S)
  local old = redis.call('ZRANGEBYSCORE', P .. 'usage_hours', '-inf', before, 'LIMIT', 0, HOURS_AT_ONCE)
  if #old > 0 then
    redis.call('INCR', P .. 'usage_folds')
  end
  for _, hour in ipairs(old) do
    local day = string.format('%.0f', math.floor(tonumber(hour) / DAY_S) * DAY_S)
    local rows = redis.call('HGETALL', P .. 'usage:hours:' .. hour)
    for first = 1, #rows, 2 do
      add_usage('days', day, rows[first], rows[first + 1])
    end
    redis.call('DEL', P .. 'usage:hours:' .. hour)
    redis.call('ZREM', P .. 'usage_hours', hour)
  end
  before = '(' .. string.format('%.0f', today - DAYS_KEPT_S)
  old = redis.call('ZRANGEBYSCORE', P .. 'usage_days', '-inf', before, 'LIMIT', 0, HOURS_AT_ONCE)
  for _, day in ipairs(old) do
    redis.call('DEL', P .. 'usage:days:' .. day)
    redis.call('ZREM', P .. 'usage_days', day)
  end
end
