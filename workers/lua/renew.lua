#!lua
-- Prolongs the lease of a step that takes long and is still at work.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  key       idempotency key of the transaction
-- ARGV[3]  fence     as given to admit
-- ARGV[4]  lease_us  from now on
-- Reads    tx:<key>; writes deadlines
-- Returns  1 = prolonged, 0 = it was taken over, or has ended
-- Cost     O(log)
local tx = read_tx(ARGV[2], "state fence")
if tx.state ~= "s" or tx.fence ~= ARGV[3] then return 0 end
redis.call("ZADD", DEADLINES, "XX", now + tonumber(ARGV[4]), ARGV[2])
return 1
