#!lua
-- Marks an access token as refused by the provider, so that the next look renews it; unless it is so new that
-- it is more likely the caller's own request that was refused.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  generation  of the refused token
-- ARGV[3]  vain        1 = the caller was refused with an earlier one too: renewing that was in vain
-- ARGV[4]  least_us    a token younger than this that replaces a refused one is not renewed; each renewal
--                      in vain but the first doubles that
-- ARGV[5]  most_us     up to this
-- Reads    oauth; writes oauth
-- Returns  {renewed, age_us, lifetime_us}: renewed 1 = the next look renews it, or did already; age and
--          lifetime of the token, 0 = it was renewed before
-- Cost     O(1)
local OAUTH, vain = base .. "oauth", ARGV[3] == "1"
must_be("hash", OAUTH)
local generation, asked, expires, refused, vain_times, vain_generation, replaces = unpack(redis.call("HMGET",
  OAUTH, "generation", "asked_us", "expires_us", "refused", "vain", "vain_generation", "replaces"))
if generation ~= ARGV[2] or generation == refused then return {1, 0, 0} end
asked, expires = tonumber(asked) or 0, tonumber(expires) or 0
local times = tonumber(vain_times) or 0
if vain and vain_generation ~= generation then
  times = math.min(times + 1, 40)
  redis.call("HSET", OAUTH, "vain", times, "vain_generation", generation)
end
local is_trusted = times > 0 or replaces == "1"
local trust = math.min(tonumber(ARGV[4]) * 2 ^ math.max(times - 1, 0), tonumber(ARGV[5]))
if is_trusted and now - asked < trust then return {0, 0, 0} end
redis.call("HSET", OAUTH, "refused", generation)
return {1, now - asked, expires - asked}
