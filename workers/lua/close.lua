#!lua
-- Closes a job: all its pages are here, so that work on it may begin.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job
-- Reads    job:<job>; writes job:<job>, hungry
-- Returns  rows accepted
-- Cost     O(1)
local name = job_key(ARGV[2])
must_be("hash", name)
must_be("set", HUNGRY)
local it = redis.call("HMGET", name, "rows", "ended", "pages", "closed")
local rows = tonumber(it[1])
if it[4] == "1" then return rows end
redis.call("HSET", name, "closed", 1, "closed_us", now)
if rows == tonumber(it[2]) then redis.call("HSET", name, "finished_us", now)
elseif tonumber(it[3]) > 0 then redis.call("SADD", HUNGRY, ARGV[2]) end
return rows
