#!lua
-- Binds a client's ledger to another account, if nothing is out that was sent to the one before.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  before  JSON: what the ledger is bound to, field -> value
-- ARGV[3]  after   JSON: what it is bound to from now on
-- ARGV[4…] entry of the audit
-- Reads    deadlines, retries, quarantine, permits; writes bound, oauth, audit
-- Returns  "done"; or "out", or "other" when it is bound to something else by now: nothing was written
-- Cost     O(fields), 10 commands
local BOUND, AUDIT = base .. "bound", base .. "audit"
local before, after = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
must_be("hash", BOUND)
must_be("stream", AUDIT)
for _, name in ipairs({DEADLINES, RETRIES, QUARANTINE, PERMITS}) do
  if redis.call("ZCARD", name) > 0 then return "out" end
end
for field, value in pairs(before) do
  if redis.call("HGET", BOUND, field) ~= value then return "other" end
end
redis.call("XADD", AUDIT, unpack(ARGV, 4))
redis.call("DEL", base .. "oauth") -- a token of the account before
redis.call("DEL", BOUND) -- what is not bound any more would be another account's
for field, value in pairs(after) do redis.call("HSET", BOUND, field, value) end
return "done"
