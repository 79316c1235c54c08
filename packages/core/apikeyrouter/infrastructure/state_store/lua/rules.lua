-- The rules of the shared ledger: `domain/ledger/lease_rules.py`, line by line. A test compares the two on thousands of
-- random sequences; change both or neither. Rows and totals are tables of amounts; `alerted` and `calls` are numbers.

local ALERT_PERCENTS = {50, 80, 95, 100}

local function reached(spent, limit)
  local count, hundredfold = 0, times(spent, 100)
  for _, percent in ipairs(ALERT_PERCENTS) do
    if not below(hundredfold, times(limit, percent)) then
      count = count + 1
    end
  end
  return count
end

local function idle(totals)
  return larger(ZERO, minus(minus(totals.granted, totals.spent), totals.held))
end

-- From when on something of a rate is in use: what was known, unless that has left, or what the asker says.
local function earlier(since, ask)
  if since == 0 or since < tonumber(ask.oldest) then
    return ask.since
  end
  return ask.since > 0 and math.min(since, ask.since) or since
end

-- One ask. `row`: nil when there is none. Returns the row, the totals, and how many alerts had been told before; the row
-- and the totals are the given ones when the ask is an old one.
local function grant(ask, row, totals, limit, hard, counted)
  if row and not below(row.seq, ask.seq) then
    return row, totals, totals.alerted
  end
  local before = row or {seq = ZERO, spent = ZERO, held = ZERO, granted = ZERO, overrun = ZERO}
  local after = {
    seq = ask.seq,
    spent = larger(before.spent, ask.spent),
    held = ask.held,
    overrun = larger(before.overrun, ask.overrun),
  }
  local known = larger(before.granted, ask.have)
  local wanted = larger(ask.granted, after.spent)
  local calls = totals.calls
  after.granted = wanted
  if hard then
    local ceiling = minus(minus(limit, counted.granted), minus(totals.granted, before.granted))
    local kept = smaller(known, larger(ceiling, plus(after.spent, after.held)))
    after.granted = smaller(wanted, kept)
    if below(kept, wanted) then
      local most = larger(kept, smaller(wanted, ceiling))
      local needed = smaller(kept, plus(after.spent, after.held))
      after.granted = below(most, smaller(ask.least, wanted)) and needed or most
    end
    local own_idle = larger(ZERO, minus(minus(before.granted, before.spent), before.held))
    local others_idle = minus(idle(totals), own_idle)
    if ask.is_slots then -- what is under way ends at any moment: it may be idle by now
      others_idle = minus(totals.granted, before.granted)
    end
    if below(after.granted, wanted) and below(ZERO, others_idle) then
      calls = calls + 1
    end
  end
  after.granted = larger(after.granted, ask.is_rate and after.held or after.spent)
  local summed = {
    spent = plus(totals.spent, minus(after.spent, before.spent)),
    held = plus(totals.held, minus(after.held, before.held)),
    granted = plus(totals.granted, minus(after.granted, before.granted)),
    overrun = plus(totals.overrun, minus(after.overrun, before.overrun)),
    presumed = totals.presumed,
    calls = calls,
    alerted = totals.alerted,
    since = totals.since,
  }
  if ask.is_rate then
    summed.since = earlier(totals.since, ask)
    return after, summed, totals.alerted
  end
  local told = totals.alerted
  if ask.oldest ~= ask.window then
    told = math.max(told, reached(plus(totals.spent, counted.spent), limit))
  end
  summed.alerted = math.max(told, reached(plus(summed.spent, counted.spent), limit))
  return after, summed, told
end

-- Ends the slice of a dead worker. `legacy`: {spent, sent}, or nil. Returns the totals, and (settled, presumed).
local function recover(row, totals, legacy)
  local settled, presumed
  if legacy then
    settled, presumed = larger(ZERO, minus(legacy.spent, row.spent)), legacy.sent
  else
    settled, presumed = ZERO, larger(ZERO, minus(row.granted, row.spent))
  end
  local charged = plus(settled, presumed)
  local summed = {
    spent = plus(totals.spent, charged),
    held = minus(totals.held, row.held),
    granted = plus(totals.granted, minus(plus(row.spent, charged), row.granted)),
    overrun = totals.overrun,
    presumed = plus(totals.presumed, presumed),
    alerted = totals.alerted,
    calls = totals.calls,
    since = totals.since,
  }
  return summed, settled, presumed
end

-- Ends a dead worker's share of a rate. Returns the totals, and what counts for one more period.
local function recover_share(row, totals)
  local summed = {
    spent = totals.spent,
    held = minus(totals.held, row.held),
    granted = minus(totals.granted, row.granted),
    overrun = totals.overrun,
    presumed = totals.presumed,
    alerted = totals.alerted,
    calls = totals.calls,
    since = totals.since,
  }
  return summed, row.granted
end
