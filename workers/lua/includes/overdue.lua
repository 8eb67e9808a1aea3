-- Whether the sweep has work. Where no worker runs nobody rings, so those who ask for permits look as well.
--
-- Expects  the prelude
-- Gives    is_overdue

-- Whether a moment of this sorted set is over.
local function is_overdue(name)
  local oldest = redis.call("ZRANGE", name, 0, 0, "WITHSCORES")
  return oldest[2] and tonumber(oldest[2]) <= now
end
