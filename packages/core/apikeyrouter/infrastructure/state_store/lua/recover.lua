-- Ends a dead worker. ARGV: worker, "journal" or "presume", most entries, then per line of its journal: "<window>:<budget>",
-- spent, sent. Answers with what was presumed, or "" when there was nothing to do.

local FENCE_S = 604800 -- as in `memory_ledger.py`

local now = server_time()
local worker, has_journal = ARGV[1], ARGV[2] == 'journal'
local expires_at = redis.call('ZSCORE', P .. 'workers', worker)
if not expires_at or (not has_journal and tonumber(expires_at) > now) then
  return ''
end

local journal = {}
for first = 4, #ARGV, 3 do
  journal[ARGV[first]] = {spent = amount(ARGV[first + 1]), sent = amount(ARGV[first + 2])}
end

local sum, told = ZERO, {}

local function tell(budget)
  if not told[budget] then
    told[budget] = true
    publish('lease', budget)
  end
end

-- Of a rate: what may have been used of the share counts for one more period.
local function end_share(line, window, row, period_s)
  local summed, left = recover_share(row, totals_of(redis.call('HGET', P .. 'windows:' .. line, window)))
  put_rate(line, window, summed)
  if below(ZERO, left) and period_s > 0 then
    local start = string.format('%.0f', math.ceil(now))
    local totals = totals_of(redis.call('HGET', P .. 'windows:' .. line, start))
    local count = plus(left, totals.granted)
    totals.spent, totals.granted, totals.presumed = count, count, count
    put_rate(line, start, totals)
    redis.call('ZADD', P .. 'rates_left', math.ceil(now) + period_s + LEFT_KEPT_S, start .. ':' .. line)
  end
  tell(line)
end

local function settle(place, row)
  local window, budget = string.match(place, '^(%-?%d+):(.*)$')
  local period_s = rate_period_s(budget)
  if period_s then
    return end_share(budget, window, row, period_s)
  end
  local totals = totals_of(redis.call('HGET', P .. 'windows:' .. budget, window))
  local summed, settled, presumed = recover(row, totals, journal[place])
  if below(ZERO, settled) then
    enter(now, budget, window, worker, 'spent', settled)
  end
  if below(ZERO, presumed) then
    enter(now, budget, window, worker, 'presumed', presumed)
  end
  sum = plus(sum, presumed)
  put_window(budget, window, text_of_totals(summed))
  tell(budget)
  journal[place] = nil
end

local slices = redis.call('HGETALL', P .. 'slices:' .. worker)
for first = 1, #slices, 2 do
  settle(slices[first], slice_of(slices[first + 1]))
end
-- What is left of the journal is of windows that the store has forgotten with its last writes.
for first = 4, #ARGV, 3 do
  local place = ARGV[first]
  local budget = string.match(place, '^%-?%d+:(.*)$')
  local stored = journal[place] and redis.call('HGET', P .. 'budgets', budget)
  if stored and string.match(stored, '^[^\n]* active\n') then
    settle(place, slice_of('0 0 0 0 0'))
  end
end
redis.call('DEL', P .. 'slices:' .. worker)
redis.call('ZREM', P .. 'workers', worker)
redis.call('HDEL', P .. 'hosts', worker)
redis.call('ZADD', P .. 'fences', string.format('%.6f', now), worker)
redis.call('ZREMRANGEBYSCORE', P .. 'fences', '-inf', now - FENCE_S)
fold(tonumber(ARGV[3]))
return text_of(sum)
