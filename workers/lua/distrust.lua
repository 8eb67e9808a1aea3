#!lua flags=allow-oom
-- Stops a client whose store is older than a process knows: nothing is granted until trust.lua.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Writes   gov
-- Returns  1
-- Cost     O(1)
local newest = tonumber(redis.call("HGET", GOV, "sent")) or 0
redis.call("HSET", GOV, "sent", -math.max(math.abs(newest), 1))
return 1
