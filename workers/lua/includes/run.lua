-- Whether the store's data are as new as this server and its callers know them to be. A replica that was
-- promoted, or a server that was restored, may have forgotten its last moments: calls that were sent.
--
-- Expects  the prelude
-- Gives    QUIET, know_run, behind
--
-- gov.sent is the number of the newest grant: its moment, or one more than the number before, so that it
-- never goes back. Negative, the client is stopped: the store is older than a process knew, and nobody
-- knows what it has forgotten. The server itself keeps in KEPT what it saw last: a run of the server that
-- knows nothing, or knows more than is stored, begins with a quiet time. Nothing is granted meanwhile,
-- until each worker that lives had the time to say what it has sent (reclaim.lua).
local QUIET = 1000000
-- Clients of which so much is kept; beyond, all are forgotten at once, and begin as in a new run.
local MOST_RUNS = 10000

local function begin_quiet(run, newest)
  run.newest, run.since, run.quiet_until, run.starts_empty = newest, now, now + QUIET, true
end

-- What this run of the server knows of the client; `newest` is the stored number. Nothing is granted
-- before its `quiet_until`.
local function know_run(newest)
  local run = KEPT.runs[base]
  if not run then
    if KEPT.run_count == MOST_RUNS then KEPT.runs, KEPT.run_count = {}, 0 end
    run = {newest = newest, since = now, quiet_until = 0}
    KEPT.runs[base], KEPT.run_count = run, KEPT.run_count + 1
    if newest > 0 then begin_quiet(run, newest) end
  elseif newest < run.newest or run.quiet_until > 0 and now < run.since then
    begin_quiet(run, newest)
  end
  run.newest = newest
  return run
end

-- What a script answers whose client is stopped; workers/store/replaced.py knows the first word.
local function behind(newest) return redis.error_reply("BEHIND " .. string.format("%.0f", -newest)) end
