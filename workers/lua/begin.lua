#!lua
-- Creates a job, unless one of this name is there.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job
-- ARGV[3…] field, value: what is known of it: kind, job_params (JSON), low (when to open the next page)
-- Includes run (know_run: a client is seen here before it has a job)
-- Reads    gov; writes job:<job>, jobs
-- Returns  1 = created, 0 = it was there
-- Cost     O(fields)
local name = job_key(ARGV[2])
must_be("hash", name)
must_be("zset", base .. "jobs")
local newest = tonumber(redis.call("HGET", GOV, "sent")) or 0
if redis.call("EXISTS", name) == 1 then return 0 end
if newest >= 0 then know_run(newest) end
redis.call("ZADD", base .. "jobs", now, ARGV[2])
redis.call("HSET", name, JOB.schema, SCHEMA, JOB.pages, 0, JOB.next_page, 0, JOB.rows, 0, JOB.ended, 0,
  JOB.began_us, now, unpack(ARGV, 3))
return 1
