-- Pauses: what the provider says of its quota holds calls back.
--
-- Expects  bucket
-- Gives    pause_flow, pause_of_quota, keep_quota
--
-- Of a pause gov keeps the reason ("y:" + scope), of the headers what they leave ("z:" + scope).

-- The hold that stays when an operator ends the pause that is in the way.
local function note_order(paused, till)
  local until_us, ordered = string.match(paused, "^(%d+) (%d+)$")
  if until_us and till > (read_number(ordered) or 0) then
    redis.call("HSET", GOV, "paused", string.format("%s %.0f", until_us, till))
  end
end

-- No tokens until the pause ends, and then from empty: what waited is paced, not released. Held is
-- the flow's scope; a second scope that is refused in the same second widens the pause to all. `reach`
-- "client" holds all from the start.
local function pause_flow(flow, pause, why, reach)
  local scope, refused_us, paused = unpack(redis.call("HMGET", GOV, "refused", "refused_us", "paused"))
  local wide = reach == "client"
    or scope and scope ~= flow.scope and now - (read_number(refused_us) or 0) < 1000000
  local held = wide and "client" or flow.scope
  for _, bucket in ipairs(flow.limits) do
    local name = bucket[NAME]
    if not is_places(bucket) and (wide or name == flow.scope) then
      local full = full_at(redis.call("HGET", GOV, "c:" .. name), bucket)
      local till = now + pause + bucket[INTERVAL] * bucket[BURST]
      if name == "client" and paused then note_order(paused, till) end
      if till > full then
        redis.call("HSET", GOV, "c:" .. name, till)
        if name == held then redis.call("HSET", GOV, "y:" .. held, why) end
      end
    end
  end
  redis.call("HSET", GOV, "refused", flow.scope, "refused_us", now)
end

-- The pause that follows from what the headers leave, and its reason: what is out will take it, this call
-- excepted. 0 = none.
local function pause_of_quota(remaining, reset)
  local flying = redis.call("ZCARD", DEADLINES) - redis.call("ZCARD", RETRIES) - 1
  flying = flying + redis.call("ZCARD", PERMITS)
  for _, no_call in ipairs(redis.call("HMGET", GOV, "b:client",
    "b:pool:calls", "l:pool:calls", "b:pool:media", "l:pool:media")) do
    flying = flying - (tonumber(no_call) or 0)
  end
  if remaining > flying then return 0, "" end
  return reset, string.format("the provider leaves %.0f calls until its reset", remaining)
end

local function keep_quota(flow, remaining, reset)
  redis.call("HSET", GOV, "z:" .. flow.scope, string.format("%.0f %.0f", remaining, now + reset))
end
