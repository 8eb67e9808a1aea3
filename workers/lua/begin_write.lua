#!lua
-- Lets a write of a task outside of jobs go, under a key that it may have had before: its key and its request
-- are kept from the first time on.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  task        name of the task, which is that of its record
-- ARGV[3]  key         idempotency key of the write
-- ARGV[4]  digest      of its request
-- ARGV[5]  max_age_us  oldest age of a key, from its first send, at which a send may start
-- ARGV[6]  keep_s      how long the record is kept from now on, in seconds
-- Reads    gov; writes writes:<task>
-- Returns  {"FIRST", 0}      the key was never sent: it is kept now
--          {"AGAIN", age_us}  the same request may be sent again
--          {"OLD", age_us}    the key is past max_age_us, or the clock was set back since
--          {"OTHER", age_us}  another request was sent under it
-- Cost     O(1), 2 to 4 commands
local name, key, digest = base .. "writes:" .. ARGV[2], ARGV[3], ARGV[4]
-- A clock that was set back goes on here: the record is not moved along.
local moment = now + (tonumber(redis.call("HGET", GOV, "set_back")) or 0)
local known = redis.call("HGET", name, key)
local first_us, sent_digest = string.match(known or "", "^(%d+) (%x*)")
if not first_us then
  redis.call("HSET", name, key, string.format("%.0f %s", moment, digest))
  redis.call("EXPIRE", name, ARGV[6])
  return {"FIRST", 0}
end
local age = moment - tonumber(first_us)
if age > tonumber(ARGV[5]) or age < -SET_BACK then return {"OLD", age} end
if sent_digest ~= digest then return {"OTHER", age} end
if not string.find(known, " again$") then redis.call("HSET", name, key, known .. " again") end
redis.call("EXPIRE", name, ARGV[6])
return {"AGAIN", age}
