-- A cell is a row {name, interval_us, burst, lead_us, spread_us, reserve, 1 = of a route}; its state, in
-- the hash gov, is the moment it is full again (field "c:" + name) and the bells that are out for it
-- ("b:" + name); one of them is left to a guest until "g:" + name. Of the burst, `reserve` tokens are for lane 0 only. A cell of interval 0 without burst
-- holds nothing back but a pause; one with a burst counts the calls that are out ("l:" + name; the
-- transaction's `cc` names them).

-- The cell of a route (a seventh value) has state only while a pause is felt, and is full otherwise.
local function is_route(cell) return cell[7] end

-- When the cell is full again. State that was lost, or never was, is an empty bucket.
local function full_at(state, cell)
  return math.max(tonumber(state) or is_route(cell) and now or now + cell[2] * cell[3], now)
end

-- A step that makes no call has one cell alone, its pool: it counts the threads that the step holds, as
-- such a limit counts places, and holds nothing back. How many of them there are, ring knows.
local MEDIA = "pool:media"
local function pool_of(limits) return limits[1][1] end
local function is_governed(limits) return pool_of(limits) == "client" end

local function is_slots(cell) return cell[2] == 0 and cell[3] > 0 end
local function state_of(cell) return (is_slots(cell) and "l:" or "c:") .. cell[1] end

-- What the cell lets through at this moment in a lane, bells that are out not yet taken off.
local function tokens(state, cell, at, lane)
  if is_slots(cell) then return cell[3] - tonumber(state or 0) end
  if cell[2] == 0 then return full_at(state, cell) <= now and 1000000 or 0 end
  local free = math.floor((cell[2] * cell[3] - (full_at(state, cell) - at)) / cell[2])
  return lane == 0 and free or free - cell[6]
end

local function count_bells(limits, by)
  for _, cell in ipairs(limits) do redis.call("HINCRBY", GOV, "b:" .. cell[1], by) end
end

-- A call that was out frees its places.
local function free_slots(names)
  for name in string.gmatch(names or "", "[^+]+") do redis.call("HINCRBY", GOV, "l:" .. name, -1) end
end
