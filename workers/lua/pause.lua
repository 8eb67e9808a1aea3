#!lua flags=allow-oom
-- Lets nothing leave for a client until a moment, on an operator's word. What is under way stays so,
-- and bells that are out go back to the backlog when they ask.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  for_us  how long, integer >= 1; a hold that ends later stands as it is
-- ARGV[3]  why     as people read it
-- ARGV[4…] the entry of the audit
-- Reads    gov; writes audit, gov
-- Returns  the moment until which the client is held
-- Cost     O(1)
must_be("stream", base .. "audit")
local until_us = now + tonumber(ARGV[2])
local held, paused = unpack(redis.call("HMGET", GOV, "c:client", "paused"))
held = read_number(held) or 0
local paused_until, provider = string.match(paused or "", "(%d+) (%d+)")
-- What the provider orders stands apart: it stays when the pause is ended.
if (read_number(paused_until) or 0) <= now then provider = string.format("%.0f", held) end
redis.call("XADD", base .. "audit", unpack(ARGV, 4))
if until_us > held then
  redis.call("HSET", GOV, "y:client", ARGV[3], "paused",
    string.format("%.0f %s", until_us, provider), "c:client", until_us)
end
return math.max(until_us, held)
