#!lua
-- Lets work on the contacts of a campaign begin, now that their list is there, and tells how far it is.
-- Called again it only tells.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job of contacts
-- ARGV[3]  list    the provider's id of their list
-- ARGV[4]  rows    rows that the job has when it is whole
-- Reads    job:<job>; writes job:<job>, hungry
-- Returns  rows, ended, rejected, succeeded, failed, unknown, us since work began, 1 = all have ended;
--          nothing when the job is not there, or not whole: then nothing was written
-- Cost     O(1)
local name = job_key(ARGV[2])
must_be("hash", name)
must_be("set", HUNGRY)
local it = redis.call("HMGET", name, "rows", "ended", "rejected", "succeeded", "failed", "unknown",
  "closed_us", "finished_us", "pages")
local function number(i) return tonumber(it[i] or 0) end
if number(1) == 0 or it[1] ~= ARGV[4] then return {} end
local since = number(7)
local ended = it[8] and 1 or 0
if since == 0 then
  since = now
  redis.call("HSET", name, "list", ARGV[3], "closed_us", now)
  if number(1) == number(2) then
    redis.call("HSET", name, "finished_us", now)
    ended = 1
  elseif number(9) > 0 then
    redis.call("SADD", HUNGRY, ARGV[2])
  end
  redis.call("HSET", name, "closed", 1)
end
return {number(1), number(2), number(3), number(4), number(5), number(6), math.max(0, now - since), ended}
