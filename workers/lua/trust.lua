#!lua flags=allow-oom
-- Lets a client go on after a restored backup was recovered: the number of its newest grant becomes one that
-- no process can have seen.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Writes   gov
-- Returns  1
-- Cost     O(1)
local newest, set_back = unpack(redis.call("HMGET", GOV, "sent", "set_back"))
local number = math.max(math.abs(tonumber(newest) or 0) + 1, now + (tonumber(set_back) or 0))
redis.call("HSET", GOV, "sent", number)
return 1
