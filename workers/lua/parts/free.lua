-- What no bell has spoken for: threads (`room`; those of the pool media stand in `left`), and the tokens
-- of each limit, the reserve left out.
local room, left, limits_of
local function start_free() room, left, limits_of = 0, {}, {} end

local function look_at(cell)
  local name, state = cell[1], gov[state_of(cell)]
  if not state and cell[2] > 0 and not is_route(cell) then
    start_empty(cell)
    state = gov["c:" .. name]
  end
  local guest = number("g:" .. name) > now and 1 or 0
  left[name] = tokens(state, cell, now + cell[4]) - number("b:" .. name) - guest
  if name == "client" and gov.breaker then -- half open: a probe, if none is out
    left[name] = math.min(left[name], (number("breaker") <= now and 1 or 0) - number("b:client"))
  end
end

-- What a flow's name, lane:tenant:limits with 8 characters at its end, says. Kept for later calls.
local function named(id)
  local it = KEPT.names[id]
  if not it then
    if KEPT.named == 10000 then KEPT.names, KEPT.named = {}, 0 end
    local lane, name = string.sub(id, 1, 1), string.sub(id, 1, -10)
    it = {lane = tonumber(lane), name = name, tenant = string.sub(name, 3), limits = string.sub(id, -8),
      pass = "p:" .. name}
    KEPT.names[id], KEPT.named = it, KEPT.named + 1
  end
  return it
end

-- What flows of equal limits have in common: the end of their names, unless their tenant got limits of
-- its own later.
local function limits_name(id, it)
  if not gov.capped or gov.capped == "" then return it.limits end
  local own = string.find(gov.capped, "/" .. it.tenant .. "/", 1, true)
  return own and it.tenant .. "/" .. it.limits or it.limits
end

-- How many calls of this flow may still be rung.
local function available(id, lane)
  local ending = limits_name(id, named(id))
  limits_of[ending] = limits_of[ending] or read_flow(id).limits
  local limits = limits_of[ending]
  local least = pool_of(limits) == MEDIA and left[MEDIA] or room
  for _, cell in ipairs(limits) do
    if not left[cell[1]] then look_at(cell) end
    least = math.min(least, left[cell[1]] + (lane == 0 and cell[6] or 0))
  end
  return least
end

local function speak_for(limits)
  if pool_of(limits) ~= MEDIA then room = room - 1 end
  for _, cell in ipairs(limits) do left[cell[1]] = left[cell[1]] - 1 end
end
