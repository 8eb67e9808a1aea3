-- When a job wants its next page opened.
--
-- Expects  wake
-- Gives    PAGES, count_open, wants_page, leave_needs_page, begin_work

-- The fields of a job by which that is decided.
local PAGES = "released ended_transactions pages next_page low_water"

-- How many transactions of the job are open: released and not ended.
local function count_open(released, ended_transactions)
  return (tonumber(released) or 0) - (tonumber(ended_transactions) or 0)
end

-- Whether a job of so many pages and open transactions wants its page number `next_page` opened.
local function wants_page(next_page, pages, open, low_water)
  return (tonumber(next_page) or 0) < (tonumber(pages) or 0) and open < (tonumber(low_water) or 0)
end

-- Takes the job out of needs_page unless it wants its page number `next_page` opened while so many of its
-- transactions are open; `job` was read by PAGES.
local function leave_needs_page(name, job, next_page, open)
  if not wants_page(next_page, job.pages, open, job.low_water) then redis.call("SREM", NEEDS_PAGE, name) end
end

-- Work on a job begins: its first page is wanted whatever its low water is, or nothing is left to do.
-- Returns whether the job has ended.
local function begin_work(name, rows, ended, pages)
  redis.call("HSET", job_key(name), JOB.started, 1, JOB.started_us, now)
  if rows == ended then redis.call("HSET", job_key(name), JOB.finished_us, now)
  elseif (pages or 0) > 0 then
    redis.call("SADD", NEEDS_PAGE, name)
    need_ring(now)
  end
  return rows == ended
end
