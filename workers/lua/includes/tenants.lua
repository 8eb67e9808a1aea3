-- Who goes next: stride scheduling within a lane.
--
-- Expects  tick, capacity, damage, probers, behind_others, backlogs
-- Gives    before, tenants_of, choose, next_of
--
-- The tenant with the least pass goes. One that was idle starts at the lane's virtual time, so that it is
-- neither owed its idle time nor made to wait. A flow's name is lane:tenant:limits, the last in 8
-- characters.

local function before(one, other)
  return one.lane < other.lane or one.lane == other.lane and one.pass < other.pass
end

local function was_passed(lane)
  for field in pairs(passed) do
    if string.sub(field, 3, 3) == tostring(lane) then return true end
  end
end

-- The tenants for which a limit lets something through, each with the names of its flows; of flows with
-- equal limits one each; and the lanes in which something waits, where there are several. While an urgent
-- row waits, tenants are among them that could go in its place alone. Hundreds may have work: what is written
-- here counts.
local function tenants_of(flow_names)
  local tenants, different, by_name, busy = {}, {}, {}, {}
  local first = number("q:0") > 0 and 0 or nil
  for _, flow_name in ipairs(flow_names) do
    local parsed = parse_flow_name(flow_name)
    local lane, limits = busy[parsed.lane], limits_name(parsed)
    if not lane then
      lane = {open = {}, time = number("v:" .. parsed.lane)}
      busy[parsed.lane] = lane
    end
    if lane.open[limits] == nil then
      local free = available(flow_name, first or parsed.lane)
      if free then lane.open[limits] = free > 0 else note_unknown_flow(flow_name) end
      if lane.open[limits] then different[#different + 1] = {name = flow_name, lane = parsed.lane} end
    end
    if lane.open[limits] then
      local tenant = by_name[parsed.name]
      if tenant then tenant[#tenant + 1] = flow_name
      else
        local pass = math.max(read_number(gov[parsed.pass]) or 0, lane.time)
        tenant = {flow_name, name = parsed.name, lane = parsed.lane, pass = pass}
        by_name[parsed.name], tenants[#tenants + 1] = tenant, tenant
      end
    end
  end
  -- In a lane without work nobody is ahead of anybody: its passes are forgotten.
  for lane = 0, LAST_LANE do
    if not busy[lane] and (gov["v:" .. lane] or was_passed(lane)) then
      for field in pairs(gov) do
        if string.find(field, "^[pvs]:" .. lane) then redis.call("HDEL", GOV, field) end
      end
    end
  end
  return tenants, different, next(busy, next(busy)) and busy
end

-- Of the tenant's backlogs one from which something may go now, no breaker being open for it: one in which
-- a row that is due goes next, else each in turn; nil when there is none. `lane` is the one as which it goes;
-- with `limit` only what is charged to that.
local function choose(tenant, turns, lane, limit)
  tenant.backlogs = tenant.backlogs or backlogs_of(tenant)
  local chosen
  for i = 1, #tenant.backlogs do
    local backlog = tenant.backlogs[(turns + i) % #tenant.backlogs + 1]
    local may_go = backlog.due + backlog.new > 0 and available(backlog.flow_name, lane) > 0
    if may_go and not open_breaker_of(backlog) and (not limit or has_limit(backlog.limits, limit)) then
      local is_due = is_due_next(backlog)
      chosen = (is_due or not chosen) and backlog or chosen
      if is_due then break end
    end
  end
  return chosen
end

-- The next transaction of the tenant and its limits; nil when nothing of it can go. While a breaker is open
-- for it, that is a probe.
local function next_of(tenant, turns)
  local open = false
  for _, flow_name in ipairs(tenant) do open = open or available(flow_name, tenant.lane) > 0 end
  if not open then return nil end
  tenant.backlogs = tenant.backlogs or backlogs_of(tenant)
  local prober, limits = next_prober(tenant.backlogs, tenant.lane)
  if prober then return prober, limits end
  return take(choose(tenant, turns, tenant.lane))
end
