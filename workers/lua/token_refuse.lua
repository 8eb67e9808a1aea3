#!lua
-- Marks an access token as refused by the provider, so that the next look renews it; unless it is so new that
-- it is more likely the caller's own request that was refused.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  generation  of the refused token
-- ARGV[3]  least_us    a token younger than this that replaces a refused one is not renewed; each renewal
--                      after the first doubles that
-- ARGV[4]  most_us     up to this
-- ARGV[5]  forget_us   the renewals are forgotten when a call that was refused came back and was answered,
--                      and none was refused for so long
-- Reads    oauth; writes oauth
-- Returns  {renewed, age_us, lifetime_us}: renewed 1 = the next look renews it, or did already; age and
--          lifetime of the token, 0 = it was renewed before
-- Cost     O(1)
local OAUTH = base .. "oauth"
must_be("hash", OAUTH)
local generation, asked, expires, refused, renewals, refused_us, worked_us = unpack(redis.call("HMGET", OAUTH,
  "generation", "asked_us", "expires_us", "refused", "renewals", "refused_us", "worked_us"))
if generation ~= ARGV[2] or generation == refused then return {1, 0, 0} end
asked, expires, renewals = tonumber(asked) or 0, tonumber(expires) or 0, tonumber(renewals) or 0
local quiet_since = math.max(asked, tonumber(refused_us) or 0)
local has_worked = (tonumber(worked_us) or 0) >= asked
if has_worked and now - quiet_since >= tonumber(ARGV[5]) then renewals = 0 end
local trust = renewals > 0 and math.min(tonumber(ARGV[3]) * 2 ^ (renewals - 1), tonumber(ARGV[4])) or 0
local renewed = now - asked >= trust
if renewed then redis.call("HSET", OAUTH, "refused", generation) end
redis.call("HSET", OAUTH, "refused_us", now, "renewals", math.min(renewals + (renewed and 1 or 0), 40))
if not renewed then return {0, 0, 0} end
return {1, now - asked, expires - asked}
