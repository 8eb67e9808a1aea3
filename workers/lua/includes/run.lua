-- Whether the store's data are as new as this server and its callers know them to be. A replica that was
-- promoted, or a server that was restored, may have forgotten its last moments: calls that were sent.
--
-- Expects  the prelude
-- Gives    QUIET, know_run, quiet_left, moment_of, behind
--
-- gov.sent is the number of the newest grant: its moment, or one more than the number before. So that it
-- never goes back, such a moment counts on what the clock was set back, gov.set_back. Negative, the client
-- is stopped: the store is older than a process knew, and nobody knows what it has forgotten. The server
-- itself keeps in KEPT what it saw last, for as long as it is the primary: a run of the server that knows
-- nothing, or knows more than is stored, begins with a quiet time. Nothing is granted meanwhile, until each
-- worker that lives had the time to say what it has sent (reclaim.lua).
local QUIET = 1000000
-- Clients of which so much is kept; beyond, all are forgotten at once, and begin as in a new run.
local MOST_RUNS = 10000
-- Whether another server was the primary meanwhile is looked at again after so many us: a call that another
-- one granted, and a failover there and back, take longer.
local LOOK = 20000

-- A primary that was a replica meanwhile has another replication id. What it kept before is outdated.
local function look_at_role()
  if math.abs(now - (KEPT.looked_at or 0)) < LOOK then return end
  local replication = string.match(redis.call("INFO", "replication"), "master_replid:(%x+)")
  if replication ~= KEPT.replication then KEPT.runs, KEPT.run_count = {}, 0 end
  KEPT.replication, KEPT.looked_at = replication, now
end

-- The newest moment, as a number, of which the data know: somebody rang, or created a job. 0 = the client is
-- new, and nothing of it can have been forgotten.
local function newest_moment()
  local rung, set_back = unpack(redis.call("HMGET", GOV, "at", "set_back"))
  local job = not rung and redis.pcall("ZRANGE", base .. "jobs", -1, -1, "WITHSCORES")
  local moment = read_number(rung or job[2])
  return moment and moment + (read_number(set_back) or 0) or 0
end

-- Up to the number known_until the data are surely complete with which the run begins. Only a ring ends the
-- quiet time, for it knows which workers are waited for.
local function begin_run(run)
  run.since, run.quiet_until, run.known_until = now, 0, newest_moment()
  if run.newest == 0 and run.known_until == 0 then return end
  run.quiet_until, run.is_quiet, run.starts_empty = now + QUIET, true, true
end

-- What this run of the server knows of the client; `newest` is the stored number. Nothing is granted
-- while it `is_quiet`.
local function know_run(newest)
  look_at_role()
  local run = KEPT.runs[base]
  if not run then
    if KEPT.run_count == MOST_RUNS then KEPT.runs, KEPT.run_count = {}, 0 end
    run = {newest = newest}
    begin_run(run)
    KEPT.runs[base], KEPT.run_count = run, KEPT.run_count + 1
  elseif newest < run.newest or run.quiet_until > 0 and now < run.since then
    begin_run(run)
  end
  run.newest = newest
  return run
end

-- How long the quiet time still lasts at least, in us; nothing when it is over.
local function quiet_left(run) return run.is_quiet and math.max(run.quiet_until - now, LOOK) end

-- The moment that a number stands for, by the clock of now, and never one to come. 1 stands for none: now.
local function moment_of(number)
  local set_back = read_number(redis.call("HGET", GOV, "set_back")) or 0
  return number > 1 and math.min(number - set_back, now) or now
end

-- What a script answers whose client is stopped, and up to which moment the store is complete;
-- workers/store/replaced.py knows the first word.
local function behind(newest)
  return redis.error_reply("BEHIND " .. string.format("%.0f", moment_of(-newest)))
end
