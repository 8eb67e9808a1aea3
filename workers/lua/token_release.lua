#!lua
-- Gives the lock back without a new token, if it is still ours, and says why for a while.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  owner     as given to token_look
-- ARGV[3]  failure   sentence for all who want a token meanwhile, "" = none
-- ARGV[4]  refused   1 = a person must act, else 0
-- ARGV[5]  quiet_us  how long nobody asks again
-- ARGV[6]  secrets   digest of the secrets with which it asked
-- Reads    oauth:lock; writes oauth, oauth:lock
-- Returns  1 = given back, 0 = it was another's by now and nothing was written
-- Cost     O(1)
local OAUTH, LOCK = base .. "oauth", base .. "oauth:lock"
must_be("hash", OAUTH)
must_be("string", LOCK)
if redis.call("GET", LOCK) ~= ARGV[2] then return 0 end
if ARGV[3] ~= "" then
  redis.call("HSET", OAUTH, "failed_until_us", now + ARGV[5], "failure", ARGV[3],
    "failure_refused", ARGV[4], "failed_by", ARGV[6] or "")
end
redis.call("DEL", LOCK)
return 1
