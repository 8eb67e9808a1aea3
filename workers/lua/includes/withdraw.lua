-- The way out of the place where a transaction waits, or is rung.
--
-- Expects  counter, bucket; the types that `requeue` needs are checked
-- Gives    withdraw

-- Takes a transaction of this state out of its place; returns when it is due.
local function withdraw(key, state, flow_name, flow)
  local backlog = backlog_key(flow_name)
  redis.call("ZREM", DEADLINES, key)
  redis.call("ZREM", RETRIES, key)
  if state == "r" then count_bells(flow.limits, -1) end
  local quarantined = redis.call("ZSCORE", QUARANTINE, key)
  local due = redis.call("ZSCORE", backlog .. ":due", key)
  redis.call("ZREM", QUARANTINE, key)
  if redis.call("ZREM", backlog .. ":due", key) + redis.call("LREM", backlog, 1, key) > 0 then
    add_to(GOV, "q:" .. flow.lane, -1)
  end
  return quarantined or due or now
end
