-- What a call is charged that leaves `wait` from now: fields and values for gov, and the names of the
-- limits of which it takes a place. Every limit is charged at the moment the call leaves: one with a
-- lead may put it off, and a call that came late under the others would break their arithmetic.
local function charges(limits, fields, states, wait)
  local writes, slots = {}, {}
  for i, cell in ipairs(limits) do
    local field, state, value = fields[2 * i - 1], states[2 * i - 1], nil
    if is_slots(cell) then
      slots[#slots + 1] = cell[1]
      value = tonumber(state or 0) + 1
    elseif cell[2] > 0 then
      local full = full_at(state, cell)
      value = not (is_route(cell) and full <= now) and math.max(full, now + wait) + cell[2]
    end
    if value then writes[#writes + 1], writes[#writes + 2] = field, value end
  end
  return writes, slots
end
