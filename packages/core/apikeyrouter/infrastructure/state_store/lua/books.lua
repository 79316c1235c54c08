-- Windows, slices and entries as they are stored: decimal numbers with spaces between, in hashes. After `common`,
-- `amounts`.
-- windows:<budget>: window -> totals. window_index:<budget>: the windows, by second. slices:<worker>: one row for each
-- "<window>:<budget>". entries:<budget>: lines, oldest first. entry_order: the budgets of all lines, oldest line first.
-- openings:<budget>: window -> what was folded. rates_left: "<window>:<line>" of what dead workers left of rates, by the
-- second when it may be forgotten.

local FOLD_MORE = 1000
local WINDOWS_MAX = 2000 -- per budget, as in `memory_ledger.py`
local LEFT_KEPT_S = 60 -- likewise
local LEFT_AT_ONCE = 100

local function split(text)
  local words = {}
  for word in string.gmatch(text, '[^ ]+') do
    words[#words + 1] = word
  end
  return words
end

local function totals_of(text)
  if not text then
    return {spent = ZERO, held = ZERO, granted = ZERO, overrun = ZERO, presumed = ZERO, alerted = 0, calls = 0,
      since = 0}
  end
  local words = split(text)
  return {
    spent = amount(words[1]),
    held = amount(words[2]),
    granted = amount(words[3]),
    overrun = amount(words[4]),
    presumed = amount(words[5]),
    alerted = tonumber(words[6]),
    calls = tonumber(words[7]),
    since = tonumber(words[8] or '0'),
  }
end

local function text_of_totals(totals)
  return table.concat({
    text_of(totals.spent),
    text_of(totals.held),
    text_of(totals.granted),
    text_of(totals.overrun),
    text_of(totals.presumed),
    string.format('%.0f', totals.alerted),
    string.format('%.0f', totals.calls),
    string.format('%.0f', totals.since),
  }, ' ')
end

local function slice_of(text)
  if not text then
    return nil
  end
  local words = split(text)
  return {
    seq = amount(words[1]),
    spent = amount(words[2]),
    held = amount(words[3]),
    granted = amount(words[4]),
    overrun = amount(words[5]),
  }
end

local function text_of_slice(row)
  return table.concat({
    text_of(row.seq),
    text_of(row.spent),
    text_of(row.held),
    text_of(row.granted),
    text_of(row.overrun),
  }, ' ')
end

-- Forgets the oldest windows of a budget above the maximum, and everybody's slices of them; never window 0, a total.
local function forget_windows(budget)
  local index = P .. 'window_index:' .. budget
  local surplus = redis.call('ZCARD', index) - WINDOWS_MAX
  if surplus <= 0 then
    return
  end
  local workers = redis.call('ZRANGE', P .. 'workers', 0, -1)
  for _, window in ipairs(redis.call('ZRANGEBYSCORE', index, '(0', '+inf', 'LIMIT', 0, surplus)) do
    redis.call('ZREM', index, window)
    redis.call('HDEL', P .. 'windows:' .. budget, window)
    redis.call('HDEL', P .. 'openings:' .. budget, window)
    for _, worker in ipairs(workers) do
      redis.call('HDEL', P .. 'slices:' .. worker, window .. ':' .. budget)
    end
  end
end

local function put_window(budget, window, text)
  if redis.call('HSET', P .. 'windows:' .. budget, window, text) == 1 then
    redis.call('ZADD', P .. 'window_index:' .. budget, window, window)
    forget_windows(budget)
  end
end

local function drop_window(budget, window)
  redis.call('HDEL', P .. 'windows:' .. budget, window)
  redis.call('ZREM', P .. 'window_index:' .. budget, window)
end

-- The totals of a rate: what is nothing leaves no trace.
local function put_rate(line, window, totals)
  if below(ZERO, totals.granted) then
    put_window(line, window, text_of_totals(totals))
  else
    drop_window(line, window)
  end
end

-- The seconds of a rate's period; nil for a budget's id.
local function rate_period_s(id)
  if string.sub(id, 1, 5) ~= 'rate:' then
    return nil
  end
  return tonumber(string.match(id, '^rate:(%d+):') or '0')
end

local function forget_left(now)
  local places = redis.call('ZRANGEBYSCORE', P .. 'rates_left', '-inf', now, 'LIMIT', 0, LEFT_AT_ONCE)
  for _, place in ipairs(places) do
    local window, line = string.match(place, '^(%d+):(.*)$')
    drop_window(line, window)
    redis.call('ZREM', P .. 'rates_left', place)
  end
end

local function enter(now, budget, window, worker, kind, value)
  local line = cmsgpack.pack({now, window, worker, kind, text_of(value)})
  redis.call('RPUSH', P .. 'entries:' .. budget, line)
  redis.call('RPUSH', P .. 'entry_order', budget)
end

-- Folds the oldest lines of all budgets into the openings of their windows until `lines_max` are left. Bounded: what is
-- above it after a lower maximum was set goes with the next calls.
local function fold(lines_max)
  local surplus = redis.call('LLEN', P .. 'entry_order') - lines_max
  for _ = 1, math.min(surplus, FOLD_MORE) do
    local budget = redis.call('LPOP', P .. 'entry_order')
    local line = budget and redis.call('LPOP', P .. 'entries:' .. budget)
    local fields = line and cmsgpack.unpack(line)
    local window = fields and fields[2]
    if window and redis.call('HEXISTS', P .. 'windows:' .. budget, window) == 1 then
      local sum = amount(fields[5])
      local opening = redis.call('HGET', P .. 'openings:' .. budget, window)
      if opening then
        sum = plus(sum, amount(string.match(opening, ' (.*)$')))
      end
      local text = string.format('%.6f ', fields[1]) .. text_of(sum)
      redis.call('HSET', P .. 'openings:' .. budget, window, text)
    end
  end
end
