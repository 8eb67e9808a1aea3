#!lua flags=allow-oom
-- Notes that a process which could not connect to the provider can connect again.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us   "" or an integer (tests)
-- ARGV[2]  process  which
-- Includes ways
-- Writes   unconnected
-- Returns  1
-- Cost     O(1)
redis.call("HDEL", UNCONNECTED, ARGV[2])
return 1
