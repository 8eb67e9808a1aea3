#!lua flags=allow-oom
-- Stops a client whose store is older than a process knows: nothing is granted until trust.lua.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us       "" or an integer (tests)
-- ARGV[2]  known_until  up to which number the store's data are surely complete, from ring.lua
-- Includes run (moment_of)
-- Reads    gov; writes gov
-- Returns  the moment up to which they are, in us
-- Cost     O(1)
local newest = tonumber(redis.call("HGET", GOV, "sent")) or 0
local known = math.max(math.abs(newest), tonumber(ARGV[2]), 1)
redis.call("HSET", GOV, "sent", -known)
return moment_of(known)
