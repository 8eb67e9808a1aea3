-- Stride scheduling within a lane: the tenant with the least pass goes. One that was idle starts at the
-- lane's virtual time, so that it is neither owed its idle time nor made to wait. A flow's name is
-- lane:tenant:limits, the last in 8 characters.

local function before(a, b)
  return a.lane < b.lane or a.lane == b.lane and a.pass < b.pass
end

-- The tenants for which a limit lets something through, each with the names of its flows; and of flows
-- with equal limits one each. Hundreds may have work: what is written here counts.
local function tenants_of(ids, gov, available)
  local tenants, different, by_name, busy = {}, {}, {}, {}
  for _, id in ipairs(ids) do
    local it = named(id)
    local lane, limits = busy[it.lane], limits_name(id, it)
    if not lane then
      lane = {open = {}, time = number("v:" .. it.lane)}
      busy[it.lane] = lane
    end
    if lane.open[limits] == nil then
      lane.open[limits] = available(id, it.lane) > 0
      if lane.open[limits] then different[#different + 1] = {id = id, lane = it.lane} end
    end
    if lane.open[limits] then
      local tenant = by_name[it.name]
      if tenant then tenant[#tenant + 1] = id
      else
        local pass = gov[it.pass] and tonumber(gov[it.pass]) or 0
        if pass < lane.time then pass = lane.time end
        tenant = {id, name = it.name, lane = it.lane, pass = pass}
        by_name[it.name], tenants[#tenants + 1] = tenant, tenant
      end
    end
  end
  -- In a lane without work nobody is ahead of anybody: its passes are forgotten.
  for lane = 0, 2 do
    if gov["v:" .. lane] and not busy[lane] then
      for field in pairs(gov) do
        if string.find(field, "^[pv]:" .. lane) then redis.call("HDEL", GOV, field) end
      end
    end
  end
  return tenants, different
end

-- The tenant's flows in which something may go now; those that are empty are no longer looked at.
local function lines_of(tenant)
  local lines = {}
  for _, id in ipairs(tenant) do
    local line = line_key(id)
    local due, new = redis.call("ZCOUNT", line .. ":due", "-inf", now), redis.call("LLEN", line)
    if due + new > 0 then
      local flow = read_flow(id)
      tenant.stride = flow.stride
      lines[#lines + 1] = {id = id, line = line, limits = flow.limits, due = due, new = new}
    elseif redis.call("EXISTS", line .. ":due") == 0 then
      redis.call("SREM", ACTIVE, id)
    end
  end
  return lines
end

-- The next transaction of the tenant and its limits: of a line in which one is due, else of each line
-- in turn; nil when nothing of it can go.
local function next_of(tenant, turns, available)
  local open = false
  for _, id in ipairs(tenant) do open = open or available(id, tenant.lane) > 0 end
  if not open then return nil end
  tenant.lines = tenant.lines or lines_of(tenant)
  local found
  for i = 1, #tenant.lines do
    local line = tenant.lines[(turns + i) % #tenant.lines + 1]
    if line.due + line.new > 0 and available(line.id, tenant.lane) > 0 then
      found = (line.due > 0 or not found) and line or found
      if line.due > 0 then break end
    end
  end
  if not found then return nil end
  if found.due == 0 then
    found.new = found.new - 1
    return redis.call("LPOP", found.line), found.limits
  end
  local key = redis.call("ZRANGEBYSCORE", found.line .. ":due", "-inf", now, "LIMIT", 0, 1)[1]
  redis.call("ZREM", found.line .. ":due", key)
  found.due = found.due - 1
  return key, found.limits
end
