-- The share of each lane: of the calls that a limit lets through, one in twenty goes to a lane that waits
-- behind others.
--
-- Expects  bucket, backlog, tick, capacity, bells, tenants
-- Gives    next_bell, count_turn
--
-- A lane in which something waits has its turn when bells of earlier lanes rang MOST_BEFORE times for a limit
-- since one of its own did. Then one of its tenants, with the least pass, goes in place of the one that is
-- first, as that one may: in place of an urgent call it may take the reserve.

-- The lanes and limits whose turn may have come; each is tried once a ring, for tokens only become fewer.
local in_turn
local function start_lanes() in_turn = nil end

local function add_in_turn(lane, limit, field)
  in_turn[#in_turn + 1] = {lane = lane, limit = limit, field = field}
end

local function list_in_turn()
  in_turn = {}
  for field, turns in pairs(passed) do
    local lane, limit = string.match(field, "^s:(%d):(.+)$")
    if turns >= MOST_BEFORE then add_in_turn(tonumber(lane), limit, field) end
  end
end

-- Whether a flow of the tenant is charged to the limit, and may go as one of this lane.
local function may_use(tenant, limit, lane)
  for _, flow_name in ipairs(tenant) do
    if available(flow_name, lane) > 0 and has_limit(limits_of_flow(flow_name), limit) then return true end
  end
end

-- Takes a key out of a backlog of this lane and limit, as one of the lane `first`; returns the place of its
-- tenant, the key and its limits.
local function take_in_turn(tenants, lane, limit, first, turns)
  local places = {}
  for place, tenant in ipairs(tenants) do
    if tenant.lane == lane and may_use(tenant, limit, first) then places[#places + 1] = place end
  end
  table.sort(places, function(one, other) return tenants[one].pass < tenants[other].pass end)
  for _, place in ipairs(places) do
    local key, limits = take(choose(tenants[place], turns, first, limit))
    if key then return place, key, limits end
  end
end

-- Who goes in place of the first of these tenants: place, key and limits; nothing when no lane has its turn.
local function next_in_turn(tenants, turns)
  if not in_turn then list_in_turn() end
  for i = #in_turn, 1, -1 do
    local entry, first = in_turn[i], tenants[1].lane
    if passed[entry.field] < MOST_BEFORE then table.remove(in_turn, i)
    elseif entry.lane > first and choose(tenants[1], turns, first) then
      table.remove(in_turn, i)
      local place, key, limits = take_in_turn(tenants, entry.lane, entry.limit, first, turns)
      if key then return place, key, limits end
    end
  end
end

-- Whose bell rings next: the place of its tenant, its key, and its limits; no key when the first tenant has
-- none that can go.
local function next_bell(tenants, turns)
  local place, key, limits = next_in_turn(tenants, turns)
  if key then return place, key, limits end
  return 1, next_of(tenants[1], turns)
end

-- A bell of this lane rang for these limits: later lanes in which something waits were passed over.
-- `busy` are the lanes in which something waits, where there are several.
local function count_turn(lane, limits, busy)
  for _, bucket in ipairs(busy and limits or {}) do
    for later = is_route(bucket) and LAST_LANE + 1 or lane, LAST_LANE do
      local field = turns_before(later, bucket)
      local before = passed[field] or 0
      local turns = later == lane and 0 or busy[later] and math.min(before + 1, MOST_BEFORE) or before
      if turns ~= before then
        passed[field] = turns
        set_value(field, turns)
        if turns == MOST_BEFORE then add_in_turn(later, bucket[NAME], field) end
      end
    end
  end
end
