#!lua
-- Reads the client's access token and, where it must be renewed, takes the lock to do so.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  owner       random name of this caller
-- ARGV[3]  lock_ms     how long the lock outlives an owner that dies
-- ARGV[4]  unreadable  generation that this caller cannot decrypt, "" = none
-- ARGV[5]  secrets     digest of the caller's secrets: others that were refused are no failure of its own
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
local token, generation, asked, renew, expires, refused, failed_until, failure, failure_refused, failed_by
  = unpack(
  redis.call("HMGET", OAUTH, "token", "generation", "asked_us", "renew_us", "expires_us", "refused",
  "failed_until_us", "failure", "failure_refused", "failed_by"))
local usable = token and generation ~= refused and generation ~= ARGV[4] and now < (tonumber(expires) or 0)
local is_own = failure_refused ~= "1" or not failed_by or failed_by == ARGV[5]
local failed = is_own and now < (tonumber(failed_until) or 0)
local locked = false
if not (usable and now < (tonumber(renew) or 0)) and not failed then
  locked = redis.call("SET", LOCK, ARGV[2], "NX", "PX", ARGV[3])
end
local function moment(text) return tonumber(text) and text or "0" end
return {now, locked and 1 or 0, usable and 1 or 0, token or "", moment(generation), moment(asked),
  moment(renew), moment(expires), failed and failure or "", failure_refused or "0"}
