-- What happened in each of the newest seconds, for those who look back.
--
-- Expects  the prelude
-- Gives    slot_of, one_more, newest
--
-- gov keeps 16 of them for grants ("n:" + second % 16), for those that were not used ("u:") and for
-- refusals ("x:"), each as one number, second * SECOND + how many.
local SECOND = 100000
local this_second
local function start_seconds() this_second = math.floor(now / 1000000) end

local function slot_of(kind) return kind .. this_second % 16 end

-- The counter with one more in this second; what it held of an earlier one is gone.
local function one_more(counter)
  local count = (read_number(counter) or 0) - this_second * SECOND
  return this_second * SECOND + (count > 0 and count < SECOND - 1 and count + 1 or 1)
end

-- How many the counter holds of the newest `seconds`, this one included.
local function newest(counter, seconds)
  local count = read_number(counter) or 0
  local ago = this_second - math.floor(count / SECOND)
  return ago >= 0 and ago < seconds and count % SECOND or 0
end
