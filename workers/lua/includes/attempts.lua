-- The record of what went out and was no plain success, for those who ask what became of a transaction.
--
-- Expects  lookups
-- Gives    check_record_types, record_attempt
--
-- Of each client the newest MOST_KEPT are kept. workers/ledger/attempts.py reads them.
local MOST_KEPT = 200000

-- Checks the type that `record_attempt` needs, before the first write.
local function check_record_types() must_be("stream", base .. "attempts") end

-- `tx` has job, memo and done_calls of the transaction whose call went out; `answer` says what came of it:
-- outcome, and where they are known status, correlation_id and error.
local function record_attempt(key, step, tx, answer)
  local what = looks(tx.memo) and "look-up" or "send"
  redis.call("XADD", base .. "attempts", "MAXLEN", "~", MOST_KEPT, "*",
    "us", string.format("%.0f", now), "key", key, "job", tx.job, "step", step,
    "part", tx.done_calls or 0, "what", what, "outcome", answer.outcome, "status", answer.status or "",
    "correlation", answer.correlation_id or "", "text", answer.error or "")
end
