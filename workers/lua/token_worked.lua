#!lua
-- Says that a call which was refused came back and was answered: renewing the token was not in vain.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Writes   oauth
-- Returns  1
-- Cost     O(1)
must_be("hash", base .. "oauth")
redis.call("HDEL", base .. "oauth", "vain", "vain_generation", "replaces")
return 1
