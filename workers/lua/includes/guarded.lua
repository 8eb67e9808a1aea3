-- Whether a row waits in a scope that something guards: then those that nothing guards leave the probe to it.
--
-- Expects  tick, capacity, lookups
-- Gives    is_guarded_waiting

-- A row that something guards waits where it may go within so many us: no backoff of an outage is longer. Of
-- all backlogs of a scope together about so many are looked at for one, and as many that count down.
local SOON, MOST_LOOKED = 60000000, 256

-- Scope -> whether a row waits that something guards, as far as this ring has looked.
local are_guarded
local function start_guarded() are_guarded = {} end

local function may_go_soon(flow)
  for _, bucket in ipairs(flow.limits) do
    local has_rate = bucket[INTERVAL] > 0
    if has_rate and tokens(gov[state_of(bucket)], bucket, now + SOON, flow.lane) < 1 then return false end
  end
  return true
end

local function belongs_to(scope, flow)
  return is_governed(flow.limits) and (scope == "client" or flow.scope == scope)
end

-- Whether one of these is guarded; `scope` is given where they may belong to others.
local function has_guarded(keys, scope)
  for _, key in ipairs(keys) do
    local is_whole, tx = pcall(read_tx, key, "guards step flows")
    if is_whole and tx.guards and tonumber(tx.step) and guard_of(tx.guards, tx.step) ~= "n" then
      if not scope then return true end
      local is_defined, flow = pcall(read_flow, flow_of(tx.flows or "", tx.step))
      if is_defined and belongs_to(scope, flow) then return true end
    end
  end
  return false
end

local function look_for_guarded(scope)
  if has_guarded(redis.call("ZRANGE", RETRIES, 0, MOST_LOOKED - 1), scope) then return true end
  local names = {}
  for _, flow_name in ipairs(redis.call("SMEMBERS", ACTIVE)) do
    local is_defined, flow = pcall(read_flow, flow_name)
    if is_defined and belongs_to(scope, flow) and may_go_soon(flow) then names[#names + 1] = flow_name end
  end
  local each = math.ceil(MOST_LOOKED / math.max(#names, 1))
  for i = 1, math.min(#names, MOST_LOOKED) do
    local key = backlog_key(names[i])
    local due = redis.pcall("ZRANGEBYSCORE", key .. ":due", "-inf", now + SOON, "LIMIT", 0, each)
    local new = redis.pcall("LRANGE", key, 0, each - 1)
    if not due.err and has_guarded(due) or not new.err and has_guarded(new) then return true end
  end
  return false
end

-- Whether a row waits in this scope that something guards.
local function is_guarded_waiting(scope)
  if are_guarded[scope] == nil then are_guarded[scope] = look_for_guarded(scope) end
  return are_guarded[scope]
end
