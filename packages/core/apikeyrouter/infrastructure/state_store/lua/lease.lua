-- Renews a worker and answers its asks, all in one step.
-- ARGV: worker, host, ttl in seconds, most entries, then per ask: budget, window, oldest, seq, spent, held, granted, have,
-- overrun, least, limit or "", since (both for rates). Answers: now, living workers, "fenced" or "", then per ask: granted, totals, counted spent, counted
-- granted, limit or "", alerts told before, and after. Of a budget that is gone: "", totals or "", and nothing else.

local now = server_time()
local worker, host, ttl_s = ARGV[1], ARGV[2], tonumber(ARGV[3])
local shown = string.format('%.6f', now)

if redis.call('ZSCORE', P .. 'fences', worker) then
  return {shown, redis.call('ZCOUNT', P .. 'workers', '(' .. shown, '+inf'), 'fenced'}
end
redis.call('ZADD', P .. 'workers', string.format('%.6f', now + ttl_s), worker)
if redis.call('HEXISTS', P .. 'hosts', worker) == 0 then
  redis.call('HSET', P .. 'hosts', worker, redis.call('INCR', P .. 'order') .. ' ' .. host)
end

local answers = {shown, redis.call('ZCOUNT', P .. 'workers', '(' .. shown, '+inf'), ''}

-- Spend and grants of the other windows that count too: none for a calendar window.
local function counted_of(budget, window, oldest)
  local counted = {spent = ZERO, granted = ZERO}
  if tonumber(oldest) == tonumber(window) then
    return counted
  end
  local windows = redis.call('ZRANGEBYSCORE', P .. 'window_index:' .. budget, oldest, '+inf')
  for _, other in ipairs(windows) do
    if other ~= window then
      local totals = totals_of(redis.call('HGET', P .. 'windows:' .. budget, other))
      counted.spent = plus(counted.spent, totals.spent)
      counted.granted = plus(counted.granted, totals.granted)
    end
  end
  return counted
end

local function answer(values)
  for _, value in ipairs(values) do
    answers[#answers + 1] = value
  end
end

forget_left(now)
for first = 5, #ARGV, 12 do
  local budget, window = ARGV[first], ARGV[first + 1]
  local limit_text, mode, status = ARGV[first + 10], 'hard', 'active'
  local is_rate = limit_text ~= ''
  if not is_rate then
    local stored = redis.call('HGET', P .. 'budgets', budget)
    limit_text, mode, status = string.match(stored or '', '^%d+ %-?%d+ (%-?%d+) (%a+) (%a+)\n')
  end
  if status ~= 'active' then
    answer({'', redis.call('HGET', P .. 'windows:' .. budget, window) or '', '', '', '', '', ''})
  else
    local ask = {
      window = window,
      oldest = ARGV[first + 2],
      seq = amount(ARGV[first + 3]),
      spent = amount(ARGV[first + 4]),
      held = amount(ARGV[first + 5]),
      granted = amount(ARGV[first + 6]),
      have = amount(ARGV[first + 7]),
      overrun = amount(ARGV[first + 8]),
      least = amount(ARGV[first + 9]),
      is_rate = is_rate,
      is_slots = rate_period_s(budget) == 0,
      since = tonumber(ARGV[first + 11]),
    }
    local limit, hard, slice = amount(limit_text), mode == 'hard', window .. ':' .. budget
    local row = slice_of(redis.call('HGET', P .. 'slices:' .. worker, slice))
    local text = redis.call('HGET', P .. 'windows:' .. budget, window)
    local totals = totals_of(text)
    local counted = counted_of(budget, window, ask.oldest)
    local after, summed, told = grant(ask, row, totals, limit, hard, counted)
    if after ~= row then
      text = text_of_totals(summed)
      if not is_rate then
        local spent = minus(after.spent, row and row.spent or ZERO)
        if below(ZERO, spent) then
          enter(now, budget, window, worker, 'spent', spent)
        end
        redis.call('HSET', P .. 'slices:' .. worker, slice, text_of_slice(after))
        put_window(budget, window, text)
      else
        if below(ZERO, after.granted) then -- what is in use is granted
          redis.call('HSET', P .. 'slices:' .. worker, slice, text_of_slice(after))
        else
          redis.call('HDEL', P .. 'slices:' .. worker, slice)
        end
        put_rate(budget, window, summed)
      end
      if summed.calls > totals.calls then
        publish('lease', budget)
      end
    end
    answer({
      text_of(after.granted),
      text,
      text_of(counted.spent),
      text_of(counted.granted),
      hard and limit_text or '',
      told,
      summed.alerted,
    })
  end
end
fold(tonumber(ARGV[4]))
return answers
