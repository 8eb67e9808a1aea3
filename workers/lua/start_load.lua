#!lua
-- Lets work on the contacts of a campaign begin, now that their list is there, and says how far it is.
-- Called again it only says that.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job of contacts
-- ARGV[3]  list    the provider's id of their list
-- ARGV[4]  rows    rows that the job has when it is whole
-- Includes wake (need_ring: when somebody is to ring)
-- Includes pages
-- Reads    job:<job>; writes job:<job>, needs_page, gov
-- Returns  rows, ended, rejected, succeeded, failed, unknown, us since work began, 1 = all have ended;
--          nothing when the job is not there, or not whole: then nothing was written
-- Cost     O(1)
must_be("hash", job_key(ARGV[2]))
must_be("set", NEEDS_PAGE)
must_be("hash", GOV)
local job = read_job(ARGV[2], "rows ended rejected succeeded failed unknown started_us finished_us pages")
local function number(name) return tonumber(job[name]) or 0 end
local rows, ended, since = number("rows"), number("ended"), number("started_us")
if rows == 0 or job.rows ~= ARGV[4] then return {} end
local finished = job.finished_us
if since == 0 then
  since = now
  redis.call("HSET", job_key(ARGV[2]), JOB.contact_list, ARGV[3])
  finished = begin_work(ARGV[2], rows, ended, number("pages"))
end
return {rows, ended, number("rejected"), number("succeeded"), number("failed"), number("unknown"),
  math.max(0, now - since), finished and 1 or 0}
