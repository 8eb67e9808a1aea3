#!lua
-- Starts a job: all its pages are here, so that work on it may begin.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job
-- Reads    job:<job>; writes job:<job>, needs_page
-- Returns  rows accepted
-- Cost     O(1)
local name = job_key(ARGV[2])
must_be("hash", name)
must_be("set", NEEDS_PAGE)
local rows, ended, pages, started = unpack(redis.call("HMGET", name, "rows", "ended", "pages", "started"))
rows = tonumber(rows)
if started == "1" then return rows end
redis.call("HSET", name, "started", 1, "started_us", now)
if rows == tonumber(ended) then redis.call("HSET", name, "finished_us", now)
elseif tonumber(pages) > 0 then redis.call("SADD", NEEDS_PAGE, ARGV[2]) end
return rows
