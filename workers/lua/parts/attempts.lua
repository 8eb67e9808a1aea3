-- What went out and was no plain success, for those who ask what became of a transaction: of each client
-- the newest MOST_KEPT. workers/ledger/attempts.py reads them.
local MOST_KEPT = 200000

local function may_tell() must_be("stream", base .. "attempts") end

local function tell(key, job, step, part, memo, outcome, status, correlation, text)
  local what = looks(memo) and "look-up" or "send"
  redis.call("XADD", base .. "attempts", "MAXLEN", "~", MOST_KEPT, "*", "us", string.format("%.0f", now), "key", key,
    "job", job, "step", step, "part", part or 0, "what", what, "outcome", outcome, "status", status,
    "correlation", correlation, "text", text)
end
