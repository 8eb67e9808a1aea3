#!lua flags=allow-oom
-- Moves every moment along after the store's clock was set back, so that nothing waits for a time
-- that comes again, and no pause, lease or key lasts longer than it was given.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Parts    line
-- Reads    gov, flows; writes gov, touch, guests, retries, suspects, tx:<key>, the lines
-- Returns  how far the clock was set back, in us; 0 = it was not
-- Cost     O(transactions that were sent and are open)
local back = tonumber(redis.call("HGET", GOV, "at") or 0) - now
if back < SET_BACK then return 0 end
local flows = redis.call("HKEYS", FLOWS)
may_line("")
for _, flow in ipairs(flows) do must_be("zset", line_key(flow) .. ":due") end
local function move(set)
  local flat = redis.call("ZRANGE", set, 0, -1, "WITHSCORES")
  for i = 1, #flat, 2 do redis.call("ZADD", set, tonumber(flat[i + 1]) - back, flat[i]) end
  return flat
end
local function move_sent(set)
  local flat = move(set)
  for i = 1, #flat, 2 do
    for _, field in ipairs({"t1", "t2"}) do
      local at = redis.call("HGET", tx_key(flat[i]), field)
      if at then redis.call("HSET", tx_key(flat[i]), field, tonumber(at) - back) end
    end
  end
end
move(RETRIES) -- these stand in touch as well
move_sent(TOUCH)
move(GUESTS)
move_sent(SUSPECTS)
for _, flow in ipairs(flows) do move_sent(line_key(flow) .. ":due") end
local gov = redis.call("HGETALL", GOV)
for i = 1, #gov, 2 do
  local field, value = gov[i], gov[i + 1]
  if string.find(field, "^[cgo]:") or field == "beat" or field == "refused_us" or field == "breaker" or field == "asked" then
    redis.call("HSET", GOV, field, tonumber(value) - back)
  elseif string.find(field, "^[wm]:") then
    local count, till = string.match(value, "(%d+) (%d+)")
    redis.call("HSET", GOV, field, count .. " " .. string.format("%.0f", till - back))
  elseif field == "paused" then
    local till, provider = string.match(value, "(%d+) (%d+)")
    redis.call("HSET", GOV, field, string.format("%.0f %.0f", till - back, math.max(provider - back, 0)))
  end
end
redis.call("HSET", GOV, "at", now)
return back
