#!lua flags=allow-oom
-- Lets a client go on after a restored backup was recovered: the number of its newest grant becomes one that
-- no process can have seen.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Writes   gov
-- Returns  1
-- Cost     O(1)
local newest = tonumber(redis.call("HGET", GOV, "sent")) or 0
redis.call("HSET", GOV, "sent", math.max(math.abs(newest) + 1, now))
return 1
