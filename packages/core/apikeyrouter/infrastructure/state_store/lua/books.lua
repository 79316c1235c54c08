-- Windows, slices and entries as they are stored: decimal numbers with spaces between, in hashes. After `common`,
-- `amounts`.
-- windows:<budget>: window -> totals. window_index:<budget>: the windows, by second. slices:<worker>: one row for each
-- "<window>:<budget>". entries:<budget>: lines, oldest first. entry_order: the budgets of all lines, oldest line first.
-- openings:<budget>: window -> what was folded.

local FOLD_MORE = 1000

local function split(text)
  local words = {}
  for word in string.gmatch(text, '[^ ]+') do
    words[#words + 1] = word
  end
  return words
end

local function totals_of(text)
  if not text then
    return {spent = ZERO, held = ZERO, granted = ZERO, overrun = ZERO, presumed = ZERO, alerted = 0, calls = 0}
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

local function put_window(budget, window, text)
  redis.call('HSET', P .. 'windows:' .. budget, window, text)
  redis.call('ZADD', P .. 'window_index:' .. budget, window, window)
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
    if line then
      local fields = cmsgpack.unpack(line)
      local window, sum = fields[2], amount(fields[5])
      local opening = redis.call('HGET', P .. 'openings:' .. budget, window)
      if opening then
        sum = plus(sum, amount(string.match(opening, ' (.*)$')))
      end
      local text = string.format('%.6f ', fields[1]) .. text_of(sum)
      redis.call('HSET', P .. 'openings:' .. budget, window, text)
    end
  end
end
