-- The backlogs of one tenant.
--
-- Expects  damage, behind_others
-- Gives    backlogs_of, has_limit, take

-- The tenant's backlogs in which something may go now; flows that are empty are no longer active.
local function backlogs_of(tenant)
  local backlogs = {}
  for _, flow_name in ipairs(tenant) do
    local key = backlog_key(flow_name)
    local due, new = redis.pcall("ZCOUNT", key .. ":due", "-inf", now), redis.pcall("LLEN", key)
    if type(due) == "table" or type(new) == "table" then
      clear_backlog(flow_name)
      due, new = redis.call("ZCOUNT", key .. ":due", "-inf", now), redis.call("LLEN", key)
    end
    local is_defined, flow = pcall(read_flow, flow_name)
    if not is_defined then note_unknown_flow(flow_name)
    elseif due + new > 0 then
      tenant.stride = flow.stride
      backlogs[#backlogs + 1] = {flow_name = flow_name, key = key, limits = flow.limits, scope = flow.scope,
        due = due, new = new}
    elseif redis.call("EXISTS", key .. ":due") == 0 then
      redis.call("SREM", ACTIVE, flow_name)
    end
  end
  return backlogs
end

-- Whether one of these limits has this name.
local function has_limit(limits, limit)
  for _, bucket in ipairs(limits) do
    if bucket[NAME] == limit then return true end
  end
end

-- Takes the next transaction out of a backlog; returns its key and its limits.
local function take(backlog)
  if not backlog then return nil end
  local key = take_due(backlog)
  if key then return key, backlog.limits end
  backlog.new = backlog.new - 1
  return redis.call("LPOP", backlog.key), backlog.limits
end
