-- What the provider says of its quota holds calls back. Of a pause gov keeps the reason ("y:" + scope),
-- of the headers what they leave ("z:" + scope).

-- No tokens until the pause ends, and then from empty: what waited is paced, not released. Held is
-- the flow's scope; a second scope that is refused in the same second widens the pause to all, unless
-- it is `alone`: for a reason that no other scope shares.
local function pause_flow(flow, pause, why, wide, alone)
  local scope, at = unpack(redis.call("HMGET", GOV, "refused", "refused_us"))
  wide = wide or not alone and scope and scope ~= flow.scope and now - at < 1000000
  local held = wide and "client" or flow.scope
  for _, cell in ipairs(flow.limits) do
    if not is_slots(cell) and (wide or cell[1] == flow.scope) then
      local full = full_at(redis.call("HGET", GOV, "c:" .. cell[1]), cell)
      local till = now + pause + cell[2] * cell[3]
      if till > full then
        redis.call("HSET", GOV, "c:" .. cell[1], till)
        if cell[1] == held then redis.call("HSET", GOV, "y:" .. held, why) end
      end
    end
  end
  if not alone then redis.call("HSET", GOV, "refused", flow.scope, "refused_us", now) end
end

-- The pause that follows from what the headers leave: what is out will take it, this call excepted.
local function pause_of(left, reset)
  local flying = redis.call("ZCARD", TOUCH) - redis.call("ZCARD", RETRIES) + redis.call("ZCARD", GUESTS) - 1
  for _, no_call in ipairs(redis.call("HMGET", GOV, "b:client",
    "b:pool:calls", "l:pool:calls", "b:pool:media", "l:pool:media")) do
    flying = flying - (tonumber(no_call) or 0)
  end
  if left <= flying then return reset, "the provider leaves " .. left .. " calls until its reset" end
  return 0
end

local function keep_told(flow, left, reset)
  redis.call("HSET", GOV, "z:" .. flow.scope, left .. " " .. string.format("%.0f", now + reset))
end
