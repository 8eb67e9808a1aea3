-- The record of what went out and was no plain success, for those who ask what became of a transaction.
--
-- Expects  lookups
-- Gives    may_record, record_attempt
--
-- Of each client the newest MOST_KEPT are kept. workers/ledger/attempts.py reads them.
local MOST_KEPT = 200000

-- Checks the type that `record_attempt` needs, before the first write.
local function may_record() must_be("stream", base .. "attempts") end

-- `call` says what went out: key, job, step, part (finished calls of the step, or nothing) and memo; `answer`
-- what came of it: outcome, and where they are known status, correlation_id and error.
local function record_attempt(call, answer)
  local what = looks(call.memo) and "look-up" or "send"
  redis.call("XADD", base .. "attempts", "MAXLEN", "~", MOST_KEPT, "*",
    "us", string.format("%.0f", now), "key", call.key, "job", call.job, "step", call.step,
    "part", call.part or 0, "what", what, "outcome", answer.outcome, "status", answer.status or "",
    "correlation", answer.correlation_id or "", "text", answer.error or "")
end
