#!lua
-- Marks an access token as refused by the provider, so that the next look renews it.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  generation  of the refused token
-- Writes   oauth
-- Returns  {age_us, lifetime_us} of the token; {} = it was renewed before
-- Cost     O(1)
local OAUTH = base .. "oauth"
must_be("hash", OAUTH)
local it = redis.call("HMGET", OAUTH, "generation", "asked_us", "expires_us")
if it[1] ~= ARGV[2] then return {} end
redis.call("HSET", OAUTH, "refused", ARGV[2])
return {now - it[2], it[3] - it[2]}
