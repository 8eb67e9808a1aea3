#!lua
-- Starts a job: all its pages are here, so that work on it may begin.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job
-- Includes wake (need_ring: when somebody is to ring)
-- Includes pages (begin_work: puts the job into needs_page)
-- Reads    job:<job>; writes job:<job>, needs_page, gov
-- Returns  rows accepted
-- Cost     O(1)
must_be("hash", job_key(ARGV[2]))
must_be("set", NEEDS_PAGE)
must_be("hash", GOV)
local job = read_job(ARGV[2], "rows ended pages started")
local rows = tonumber(job.rows)
if job.started ~= "1" then begin_work(ARGV[2], rows, tonumber(job.ended), tonumber(job.pages)) end
return rows
