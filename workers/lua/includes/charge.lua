-- What a call is charged.
--
-- Expects  bucket
-- Gives    charges

-- What a call is charged that leaves `wait` us from now: fields and values for gov, and the names of the
-- limits of which it takes a place. `fields` and `states` are names and values of gov, two for each bucket.
-- Every limit is charged at the moment the call leaves: one with a lead may put it off, and a call that
-- came late under the others would break their arithmetic.
local function charges(limits, fields, states, wait)
  local writes, places = {}, {}
  for i, bucket in ipairs(limits) do
    local field, state, value = fields[2 * i - 1], states[2 * i - 1], nil
    if is_places(bucket) then
      places[#places + 1] = bucket[NAME]
      value = (read_number(state) or 0) + 1
    elseif bucket[INTERVAL] > 0 then
      local full = full_at(state, bucket)
      value = not (is_route(bucket) and full <= now) and math.max(full, now + wait) + bucket[INTERVAL]
    end
    if value then writes[#writes + 1], writes[#writes + 2] = field, value end
  end
  return writes, places
end
