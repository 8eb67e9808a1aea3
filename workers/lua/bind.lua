#!lua
-- Binds a client's ledger to an account of its provider, if it is bound to none.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2…] field, value: two for each value to which it is bound
-- Writes   bound
-- Returns  {field, value, …}: what it is bound to
-- Cost     O(fields), 3 commands at most
local BOUND = base .. "bound"
must_be("hash", BOUND)
if redis.call("EXISTS", BOUND) == 0 then redis.call("HSET", BOUND, unpack(ARGV, 2)) end
return redis.call("HGETALL", BOUND)
