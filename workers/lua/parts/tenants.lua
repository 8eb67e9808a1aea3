-- Stride scheduling within a lane: the tenant with the least pass goes. One that was idle starts at the
-- lane's virtual time, so that it is neither owed its idle time nor made to wait. A flow's name is
-- lane:tenant:limits, the last in 8 characters.

local function before(a, b)
  return a.lane < b.lane or a.lane == b.lane and a.pass < b.pass
end

-- The tenants for which a limit lets something through, each with the names of its flows; and of flows
-- with equal limits one each.
local function tenants_of(ids, gov, available)
  local tenants, different, by_name, busy = {}, {}, {}, {}
  for _, id in ipairs(ids) do
    local lane, limits, name = string.sub(id, 1, 1), limits_name(id), string.sub(id, 1, -10)
    local open = busy[lane]
    if not open then
      open = {}
      busy[lane] = open
    end
    if open[limits] == nil then
      open[limits] = available(id, tonumber(lane)) > 0
      if open[limits] then different[#different + 1] = {id = id, lane = tonumber(lane)} end
    end
    if open[limits] then
      local tenant = by_name[name]
      if tenant then tenant[#tenant + 1] = id
      else
        local pass = math.max(tonumber(gov["p:" .. name] or 0), tonumber(gov["v:" .. lane] or 0))
        tenant = {id, name = name, lane = tonumber(lane), pass = pass}
        by_name[name], tenants[#tenants + 1] = tenant, tenant
      end
    end
  end
  -- In a lane without work nobody is ahead of anybody: its passes are forgotten.
  for lane = 0, 2 do
    if gov["v:" .. lane] and not busy[tostring(lane)] then
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
