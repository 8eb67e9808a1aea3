#!lua
-- Reads the client's access token and, where it must be renewed, takes the lock to do so.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  owner       random name of this caller
-- ARGV[3]  lock_ms     how long the lock outlives an owner that dies
-- ARGV[4]  unreadable  generation that this caller cannot decrypt, "" = none
-- Reads    oauth; writes oauth:lock
-- Returns  {now_us, locked, usable, token, generation, asked_us, renew_us, expires_us, failure, refused}
--          locked 1 = the caller holds the lock: it must renew the token, then keep or release
--          usable 1 = the token is valid, not refused and readable, even if it is to be renewed
--          failure  what the last attempt to renew it met, "" = nothing or long ago; refused 1 = a
--                   person must act
-- Cost     O(1)
local OAUTH, LOCK = base .. "oauth", base .. "oauth:lock"
must_be("hash", OAUTH)
must_be("string", LOCK)
local it = redis.call("HMGET", OAUTH, "token", "generation", "asked_us", "renew_us", "expires_us",
  "refused", "failed_until_us", "failure", "failure_refused")
local usable = it[1] and it[2] ~= it[6] and it[2] ~= ARGV[4] and now < tonumber(it[5])
local failed = now < tonumber(it[7] or 0)
local locked = false
if not (usable and now < tonumber(it[4])) and not failed then
  locked = redis.call("SET", LOCK, ARGV[2], "NX", "PX", ARGV[3])
end
return {now, locked and 1 or 0, usable and 1 or 0, it[1] or "", it[2] or "0", it[3] or "0",
  it[4] or "0", it[5] or "0", failed and it[8] or "", it[9] or "0"}
