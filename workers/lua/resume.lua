#!lua flags=allow-oom
-- Ends what holds a client: an operator's pause, the provider's, breakers that are open. What waited is
-- paced: every bucket starts empty. A limit or route that is held for longer than the client was by
-- its provider is so for itself, and stays so.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2…] the entry of the audit
-- Includes seconds, counter, bucket, breaker, throttling
-- Reads    gov, flows; writes audit, gov, breaker:<scope>
-- Returns  1 = it goes on, 0 = nothing held it, and nothing was written
-- Cost     O(flows)
must_be("stream", base .. "audit")
local held, paused = unpack(redis.call("HMGET", GOV, "c:client", "paused"))
local open = {}
for _, field in ipairs(redis.call("HKEYS", GOV)) do open[#open + 1] = string.match(field, "^k:(.*)$") end
held = tonumber(held) or 0
if held <= now and #open == 0 then return 0 end
local paused_until, provider = string.match(paused or "", "(%d+) (%d+)")
if paused and tonumber(paused_until) == held then held = tonumber(provider) end

local buckets, seen = {}, {}
for _, definition in ipairs(redis.call("HVALS", FLOWS)) do
  local first_line = string.match(definition, "^[^\n]*")
  if not seen[first_line] then
    seen[first_line] = true
    local is_whole, flow = pcall(decode, definition)
    for _, bucket in ipairs(is_whole and flow.limits or {}) do buckets[bucket[NAME]] = bucket end
  end
end
redis.call("XADD", base .. "audit", unpack(ARGV, 2))
for name, bucket in pairs(buckets) do
  local full = tonumber(redis.call("HGET", GOV, "c:" .. name))
  local hold = full and full - bucket[INTERVAL] * bucket[BURST] or 0
  local own = hold > math.max(now, held)
  if bucket[INTERVAL] > 0 and not own and (hold > now or not is_route(bucket)) then
    redis.call("HSET", GOV, "c:" .. name, now + bucket[INTERVAL] * bucket[BURST])
  end
end
for _, scope in ipairs(open) do forget_breaker(scope) end
forget_refusals()
redis.call("HDEL", GOV, "paused", "y:client")
redis.call("HSET", GOV, "c:client", now)
return 1
