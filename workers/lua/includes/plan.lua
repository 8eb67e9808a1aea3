-- What follows from the verdict on a grant. It reads and writes nothing.
--
-- Expects  lookups, restored
-- Gives    check_counts, sent, plan_next

-- Fails where a transaction names no job, or one of these counts of it is no integer. Returns its attempts
-- and sends.
local function check_counts(job, attempts, sends, throttled, done_calls, crashes)
  local are_counts = tonumber(attempts or 0) and tonumber(sends or 0) and tonumber(throttled or 0)
  if not are_counts or not tonumber(done_calls or 0) or not tonumber(crashes or 0) then
    error("a count of a transaction is no integer")
  end
  if not job then error("a transaction has no job") end
  return tonumber(attempts or 0), tonumber(sends or 0)
end

-- 1 where the grant came to a send, else 0: there was no connection, or the grant was too old.
local function sent(verdict)
  local is_known = verdict.status or verdict.attempt or verdict.tag == "advance"
  return (is_known or verdict.outcome == "unknown") and 1 or 0
end

-- Decides what comes next after step number `step`; `verdict` is as settle.lua describes it, and the rest is
-- what is stored of the transaction. Returns, as values in this order, for a table would cost more,
--   goes_on    a call follows that was never sent: the next step, one more part, or the step before
--   next_step  the step of the next call
--   next_memo  what the next call must know
--   next_flows the flows of the steps from now on
--   looked     whether the call that is settled was the look-up
--   reason     why the transaction ends, where a backup that was restored leaves no other way
--   final      the final state, or nothing while it is open
local function plan_next(verdict, step, steps, flows, guards, memo, backup_us)
  local advances, looked = verdict.tag == "advance", looks(memo)
  local goes_on = verdict.part_done or verdict.step_back or advances and step < tonumber(steps)
  local next_step = verdict.step_back and step - 1 or advances and goes_on and step + 1 or step
  local next_memo, next_flows, reason = advances and "" or verdict.memo or memo or "", flows, nil
  if not advances and looks(next_memo) ~= looked then next_flows = changed_over(flows, step) end
  if goes_on and backup_us then
    next_flows, next_memo, reason = maybe_sent(guards, next_flows, next_step, next_memo)
  end
  local final = verdict.state or reason and "unknown" or advances and not goes_on and "succeeded"
  return goes_on, next_step, next_memo, next_flows, looked, reason, final
end
