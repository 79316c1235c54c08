-- Exact whole amounts. Lua's numbers are doubles, exact to 2^53 only ($9.0 million in nano-USD), so an amount is a pair:
-- {high, low} means high * 10^12 + low, with 0 <= low < 10^12. Exact to 2^53 * 10^12. Outside Lua an amount is decimal
-- text. Pairs are never changed in place.

local UNIT = 1000000000000
local ZERO = {0, 0}

local function pair(high, low)
  local carry = math.floor(low / UNIT)
  return {high + carry + 0, low - carry * UNIT + 0}
end

local function amount(text)
  local digits = string.match(text, '^%-?(%d+)$')
  if not digits then
    error('not a whole amount: ' .. tostring(text))
  end
  local size = #digits
  local high, low = 0, tonumber(string.sub(digits, -12))
  if size > 12 then
    high = tonumber(string.sub(digits, 1, size - 12))
  end
  if #text > size then
    return pair(-high, -low)
  end
  return {high, low}
end

local function text_of(a)
  local sign, high, low = '', a[1], a[2]
  if high < 0 then
    local positive = pair(-high, -low)
    sign, high, low = '-', positive[1], positive[2]
  end
  if high == 0 then
    return sign .. string.format('%.0f', low)
  end
  return sign .. string.format('%.0f%012.0f', high, low)
end

local function plus(a, b)
  return pair(a[1] + b[1], a[2] + b[2])
end

local function minus(a, b)
  return pair(a[1] - b[1], a[2] - b[2])
end

local function times(a, factor) -- factor: a whole number from 0 to 1000
  return pair(a[1] * factor, a[2] * factor)
end

local function below(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end

local function larger(a, b)
  return below(a, b) and b or a
end

local function smaller(a, b)
  return below(b, a) and b or a
end
