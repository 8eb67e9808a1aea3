-- Counts what was refused by 429, and opens the breaker of the client when that is most of it.
--
-- Expects  seconds, breaker
-- Gives    count, count_refusal, forget_refusals
--
-- It opens when more than 60 % of at least 20 calls of the newest ten seconds were refused. What was counted
-- is forgotten when it closes.
local LOOK_BACK, LEAST_CALLS, MOST_REFUSED = 10, 20, 60

local function counters(kind)
  local names = {}
  for slot = 0, 15 do names[#names + 1] = kind .. slot end
  return names
end

local function sum_of_newest(kind)
  local sum = 0
  for _, counter in ipairs(redis.call("HMGET", GOV, unpack(counters(kind)))) do
    sum = sum + newest(counter, LOOK_BACK)
  end
  return sum
end

local function forget_refusals()
  for _, kind in ipairs({"n:", "u:", "x:"}) do redis.call("HDEL", GOV, unpack(counters(kind))) end
end

-- Counts one event of this kind, "u:" or "x:", in this second.
local function count(kind)
  local slot = slot_of(kind)
  redis.call("HSET", GOV, slot, one_more(redis.call("HGET", GOV, slot)))
end

-- A call was refused; while the breaker of the client is open only those of probes count.
local function count_refusal()
  if redis.call("HEXISTS", GOV, "k:client") == 1 then return end
  count("x:")
  local calls, refusals = sum_of_newest("n:") - sum_of_newest("u:"), sum_of_newest("x:")
  if calls >= LEAST_CALLS and refusals * 100 > calls * MOST_REFUSED then
    open_breaker("client", "throttled",
      refusals .. " of " .. calls .. " calls in " .. LOOK_BACK .. " s were refused")
  end
end
