-- Counts what was refused by 429, and opens the breaker of the client when that is most of it.
--
-- Expects  seconds, breaker
-- Gives    count, count_refusal, forget_refusals
--
-- A rule of a flow's definition is three numbers: it opens when more than so many percent of the calls of
-- the newest so many seconds were refused, and these were so many at least (workers/settings/breaker.py). The
-- first rule that is met opens it: while configurations differ, those of all of them hold. What was counted
-- is forgotten when it closes.
local PERCENT, SECONDS, LEAST_CALLS = 1, 2, 3

local function counters(kind)
  local names = {}
  for slot = 0, 15 do names[#names + 1] = kind .. slot end
  return names
end

local function read_counters(kind) return redis.call("HMGET", GOV, unpack(counters(kind))) end

local function sum_of_newest(counted, seconds)
  local sum = 0
  for _, counter in ipairs(counted) do sum = sum + newest(counter, seconds) end
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

-- A call of `flow` was refused; while the breaker of the client is open only those of probes count.
local function count_refusal(flow)
  if redis.call("HEXISTS", GOV, "k:client") == 1 then return end
  count("x:")
  local granted, unsent, refused = read_counters("n:"), read_counters("u:"), read_counters("x:")
  for _, rule in ipairs(flow.breaker or {}) do
    local seconds = rule[SECONDS]
    local calls = sum_of_newest(granted, seconds) - sum_of_newest(unsent, seconds)
    local refusals = sum_of_newest(refused, seconds)
    if calls >= rule[LEAST_CALLS] and refusals * 100 > calls * rule[PERCENT] then
      open_breaker("client", "throttled",
        refusals .. " of " .. calls .. " calls in " .. seconds .. " s were refused")
    end
  end
end
