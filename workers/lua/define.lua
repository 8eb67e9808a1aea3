#!lua
-- Defines flows that may be new, or cannot be read, if no limit was changed live since their definitions
-- were made.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us   "" or an integer (tests)
-- ARGV[2]  version  of the overrides from which the definitions were made
-- ARGV[3…] flow, definition: two a flow
-- Reads    overrides; writes flows
-- Returns  1 = they are defined, 0 = the overrides are others by now: nothing was written
-- Cost     O(flows)
if (redis.call("HGET", base .. "overrides", "#") or "0") ~= ARGV[2] then return 0 end
must_be("hash", FLOWS)
for i = 3, #ARGV, 2 do
  local stored = redis.call("HGET", FLOWS, ARGV[i])
  local is_whole = stored and pcall(decode, stored) and string.find(stored, "\n%[.*%]$")
  if not is_whole then redis.call("HSET", FLOWS, ARGV[i], ARGV[i + 1]) end
end
return 1
