#!lua
-- Lets work on the contacts of a campaign begin, now that their list is there, and says how far it is.
-- Called again it only says that.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job of contacts
-- ARGV[3]  list    the provider's id of their list
-- ARGV[4]  rows    rows that the job has when it is whole
-- Reads    job:<job>; writes job:<job>, needs_page
-- Returns  rows, ended, rejected, succeeded, failed, unknown, us since work began, 1 = all have ended;
--          nothing when the job is not there, or not whole: then nothing was written
-- Cost     O(1)
local name = job_key(ARGV[2])
must_be("hash", name)
must_be("set", NEEDS_PAGE)
local counts = redis.call("HMGET", name, "rows", "ended", "rejected", "succeeded", "failed", "unknown",
  "started_us", "finished_us", "pages")
local function number(i) return tonumber(counts[i] or 0) end
local rows, ended, since, pages = number(1), number(2), number(7), number(9)
if rows == 0 or counts[1] ~= ARGV[4] then return {} end
local finished = counts[8] and 1 or 0
if since == 0 then
  since = now
  redis.call("HSET", name, "list", ARGV[3], "started_us", now)
  if rows == ended then
    redis.call("HSET", name, "finished_us", now)
    finished = 1
  elseif pages > 0 then
    redis.call("SADD", NEEDS_PAGE, ARGV[2])
  end
  redis.call("HSET", name, "started", 1)
end
return {rows, ended, number(3), number(4), number(5), number(6), math.max(0, now - since), finished}
