-- What includes/ending.lua did to a job, taken back.
--
-- Expects  counter, pages
-- Gives    plan_reopening, reopen

-- Reads what is taken back, and checks its types, before the first write. `tx` has job, rows, state and
-- dead_letter of a transaction that ended without success.
local function plan_reopening(tx)
  must_be("stream", base .. "dead")
  must_be("set", NEEDS_PAGE)
  if tx.dead_letter and not string.find(tx.dead_letter, "^%d+%-%d+$") then
    error("the dead letter of a transaction is not known")
  end
  return {tx = tx, job = read_job(tx.job, PAGES), rows = tonumber(tx.rows or 1)}
end

local function reopen(plan)
  local tx, job, rows, job_name = plan.tx, plan.job, plan.rows, job_key(plan.tx.job)
  if tx.dead_letter then redis.call("XDEL", base .. "dead", tx.dead_letter) end
  add_to(job_name, JOB[tx.state], -rows)
  add_to(job_name, JOB.ended, -rows)
  add_to(job_name, JOB.ended_transactions, -1)
  redis.call("HDEL", job_name, JOB.finished_us)
  local open = count_open(job.released, job.ended_transactions) + 1
  leave_needs_page(tx.job, job, job.next_page, open)
end
