#!lua flags=allow-oom
-- Undoes a question to admit.lua that got no answer: if it has not run yet, it grants nothing when it does.
-- If it has run, settle.lua settles its grant.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  key     idempotency key of the transaction
-- ARGV[3]  fence   as given to admit
-- Reads    tx:<key>; writes tx:<key>
-- Returns  1 = it had not run, 0 = it had, or there is no such transaction
-- Cost     O(1)
local tx = read_tx(ARGV[2], "state fence")
if not tx.state or tx.fence == ARGV[3] then return 0 end
redis.call("HSET", tx_key(ARGV[2]), TX.undone, ARGV[3])
return 1
