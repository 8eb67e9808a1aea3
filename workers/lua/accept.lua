#!lua
-- Stores one page of a job's rows and counts it in the job's `pages`, both or none.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  job       name of the job
-- ARGV[3]  page      0-based number of this page
-- ARGV[4]  rows      lines of the file in this page, rejected ones included
-- ARGV[5]  rejected  how many of them are rejected
-- ARGV[6]  calls     calls that this page will make
-- ARGV[7]  body      the page, compressed
-- Includes counter
-- Writes   job:<job>, job:<job>:page:<page>
-- Returns  pages accepted so far, -1 when the job is gone; unchanged when this page was accepted
--          before, or is not the next
-- Cost     O(1)
local name = job_key(ARGV[2])
must_be("hash", name)
local page, job = tonumber(ARGV[3]), read_job(ARGV[2], "pages started")
local pages = tonumber(job.pages) or -1
if pages ~= page or job.started == "1" then return pages end
redis.call("SET", name .. ":page:" .. ARGV[3], ARGV[7])
add_to(name, JOB.rows, ARGV[4])
add_to(name, JOB.calls, ARGV[6])
add_to(name, JOB.rejected, ARGV[5])
add_to(name, JOB.ended, ARGV[5])
return add_to(name, JOB.pages, 1)
