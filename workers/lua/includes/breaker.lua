-- The breaker of a client.
--
-- Expects  seconds, bucket
-- Gives    count, count_refusal, record_probe, close_breaker
--
-- It opens when more than 60 % of at least 20 calls of the newest ten seconds were refused: a hold of the
-- client for 5 s. From then on gov has `breaker`, and once the hold is over one call at a time is let
-- through, a probe (`prober`, its key): `breaker` is the moment until which no other one goes. A refused
-- probe opens it again, five good ones in a row (`probes`) close it; what was counted before is then
-- forgotten, and buckets start empty, so that what waited is paced. A probe without an answer, or with
-- one of unknown outcome, is no verdict.
local LOOK_BACK, LEAST_CALLS, MOST_REFUSED, OPEN, PROBES = 10, 20, 60, 5000000, 5

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

local function close_breaker()
  redis.call("HDEL", GOV, "breaker", "prober", "probes")
  for _, kind in ipairs({"n:", "u:", "x:"}) do redis.call("HDEL", GOV, unpack(counters(kind))) end
end

local function open_breaker(why)
  local full = tonumber(redis.call("HGET", GOV, "c:client")) or 0
  if now + OPEN > full then redis.call("HSET", GOV, "c:client", now + OPEN, "y:client", why) end
  redis.call("HSET", GOV, "breaker", 0, "probes", 0)
end

-- Counts one event of this kind, "u:" or "x:", in this second.
local function count(kind)
  local slot = slot_of(kind)
  redis.call("HSET", GOV, slot, one_more(redis.call("HGET", GOV, slot)))
end

-- A call was refused; while the breaker is not closed only those of probes count.
local function count_refusal()
  if redis.call("HEXISTS", GOV, "breaker") == 1 then return end
  count("x:")
  local calls, refusals = sum_of_newest("n:") - sum_of_newest("u:"), sum_of_newest("x:")
  if calls >= LEAST_CALLS and refusals * 100 > calls * MOST_REFUSED then
    local counts = refusals .. " of " .. calls .. " calls in " .. LOOK_BACK .. " s"
    open_breaker("the breaker is open: " .. counts .. " were refused")
  end
end

-- A probe came back: "answered", "refused", or anything else. After its lease another one may have gone,
-- whose answer counts instead.
local function record_probe(holder, came_to, limits)
  if redis.call("HGET", GOV, "prober") ~= holder then return end
  if came_to == "refused" then
    open_breaker("the breaker is open: a probe was refused")
  elseif came_to ~= "answered" then
    redis.call("HSET", GOV, "breaker", now + 1000000)
  elseif add_to(GOV, "probes", 1) < PROBES then
    redis.call("HSET", GOV, "breaker", 0)
  else
    close_breaker()
    for _, bucket in ipairs(limits) do
      if bucket[INTERVAL] > 0 and not is_route(bucket) then
        local state = "c:" .. bucket[NAME]
        local full = tonumber(redis.call("HGET", GOV, state)) or 0
        redis.call("HSET", GOV, state, math.max(full, now + bucket[INTERVAL] * bucket[BURST]))
      end
    end
  end
end
