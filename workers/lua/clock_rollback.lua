#!lua flags=allow-oom
-- Moves every moment along after the store's clock was set back, so that nothing waits for a time
-- that comes again, and no pause, lease or key lasts longer than it was given.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Includes bucket, quarantine, backlog, breaker
-- Reads    gov, flows; writes gov, deadlines, permits, retries, quarantine, tx:<key>, the backlogs,
--          breaker:<scope>; evidence goes
-- Returns  how far the clock was set back, in us; 0 = it was not
-- Cost     O(transactions that were sent and are open)
local back = tonumber(redis.call("HGET", GOV, "at") or 0) - now
if back < SET_BACK then return 0 end
local flows = redis.call("HKEYS", FLOWS)
check_requeue_types("")
for _, flow in ipairs(flows) do must_be("zset", backlog_key(flow) .. ":due") end
local function move(name)
  local flat = redis.call("ZRANGE", name, 0, -1, "WITHSCORES")
  for i = 1, #flat, 2 do redis.call("ZADD", name, tonumber(flat[i + 1]) - back, flat[i]) end
  return flat
end
local function move_sent(name)
  local flat = move(name)
  for i = 1, #flat, 2 do
    for _, field in ipairs({TX.first_sent_us, TX.last_answer_us, TX.first_bad_us}) do
      local moment = redis.call("HGET", tx_key(flat[i]), field)
      if moment then redis.call("HSET", tx_key(flat[i]), field, tonumber(moment) - back) end
    end
  end
end
move(RETRIES) -- these stand in deadlines as well
move_sent(DEADLINES)
move(PERMITS)
move_sent(QUARANTINE)
for _, flow in ipairs(flows) do move_sent(backlog_key(flow) .. ":due") end
local MOMENTS = {tick = true, refused_us = true, opened_us = true, asked = true}
local gov = redis.call("HGETALL", GOV)
for i = 1, #gov, 2 do
  local field, value = gov[i], gov[i + 1]
  if string.find(field, "^[cgok]:") or MOMENTS[field] then
    redis.call("HSET", GOV, field, tonumber(value) - back)
    if string.find(field, "^k:") then move_breaker(string.sub(field, 3), back) end
  elseif string.find(field, "^[wm]:") then
    local count, till = string.match(value, "(%d+) (%d+)")
    redis.call("HSET", GOV, field, count .. " " .. string.format("%.0f", till - back))
  elseif field == "paused" then
    local till, provider = string.match(value, "(%d+) (%d+)")
    local moved = string.format("%.0f %.0f", till - back, math.max(provider - back, 0))
    redis.call("HSET", GOV, field, moved)
  end
end
redis.call("DEL", base .. "evidence", base .. "healthy") -- its answers have no place in the new time
redis.call("HINCRBY", GOV, "set_back", back) -- for records that are not moved, see begin_write.lua
redis.call("HSET", GOV, "at", now)
return back
