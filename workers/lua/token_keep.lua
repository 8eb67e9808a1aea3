#!lua
-- Keeps a new access token for the whole fleet and gives the lock back, if it is still ours.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  owner       as given to token_look
-- ARGV[3]  token       encrypted
-- ARGV[4]  generation  integer, larger than the one before
-- ARGV[5]  asked_us    when the token was asked for
-- ARGV[6]  renew_us    from when on it is to be renewed
-- ARGV[7]  expires_us  from when on it is invalid
-- Reads    oauth:lock; writes oauth, oauth:lock
-- Returns  1 = kept, 0 = the lock is another's by now and nothing was written
-- Cost     O(1)
local OAUTH, LOCK = base .. "oauth", base .. "oauth:lock"
must_be("hash", OAUTH)
must_be("string", LOCK)
if redis.call("GET", LOCK) ~= ARGV[2] then return 0 end
redis.call("HDEL", OAUTH, "refused", "failed_until_us", "failure", "failure_refused", "failed_by")
redis.call("HSET", OAUTH, "token", ARGV[3], "generation", ARGV[4], "asked_us", ARGV[5],
  "renew_us", ARGV[6], "expires_us", ARGV[7])
redis.call("DEL", LOCK)
return 1
