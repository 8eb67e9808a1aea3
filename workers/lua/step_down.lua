#!lua
-- A worker rings no more: its threads count no longer, and the first to ask follows it.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  worker  its name, as it rang
-- ARGV[3]  pool    "calls" or "media": what its threads did
-- Includes wake (need_ring: when somebody is to ring)
-- Reads    gov; writes gov
-- Returns  1 when it was the one that rang, else 0
-- Cost     O(1)

must_be("hash", GOV)
local worker, owner = ARGV[2], redis.call("HGET", GOV, "owner")
redis.call("HDEL", GOV, (ARGV[3] == "media" and "m:" or "w:") .. worker)
if string.match(owner or "", "^%S+") ~= worker then return 0 end
redis.call("HDEL", GOV, "owner", "next")
need_ring(now)
return 1
