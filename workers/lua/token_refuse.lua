#!lua
-- Marks an access token as refused by the provider, so that the next look renews it.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  generation  of the refused token
-- Writes   oauth
-- Returns  {age_us, lifetime_us, again} of the token, again 1 = the one before it was refused too;
--          {} = it was renewed before
-- Cost     O(1)
local OAUTH = base .. "oauth"
must_be("hash", OAUTH)
local generation, asked, expires, again = unpack(redis.call("HMGET", OAUTH,
  "generation", "asked_us", "expires_us", "again"))
if generation ~= ARGV[2] then return {} end
redis.call("HSET", OAUTH, "refused", ARGV[2])
asked, expires = tonumber(asked) or now, tonumber(expires) or now
return {now - asked, expires - asked, (tonumber(again) or 0)}
