#!lua
-- Settles a dead letter without sending: the transaction keeps its state, and cannot be replayed any more.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  key     idempotency key of the transaction
-- ARGV[3]  letter  its entry among the dead letters
-- ARGV[4…] the entry of the audit
-- Reads    tx:<key>; writes dead, audit, tx:<key>
-- Returns  "DISCARDED"  the letter has left the list
--          "NOT_DEAD"   the transaction is none that can be replayed, or this letter was answered: nothing
--                       was written
-- Cost     O(1), 6 commands
local key, letter = ARGV[2], ARGV[3]
local tx = read_tx(key, "state dead_letter")
if (tx.state ~= "failed" and tx.state ~= "unknown") or tx.dead_letter ~= letter then return "NOT_DEAD" end
must_be("stream", base .. "audit")
must_be("stream", base .. "dead")
if not string.find(letter, "^%d+%-%d+$") then error("the dead letter of a transaction is not known") end

redis.call("XADD", base .. "audit", unpack(ARGV, 4))
redis.call("XDEL", base .. "dead", letter)
-- Without `swept` a late answer changes nothing either: it could send the transaction again.
redis.call("HDEL", tx_key(key), TX.dead_letter, TX.swept)
return "DISCARDED"
