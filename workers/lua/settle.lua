#!lua flags=allow-oom
-- Records what a grant came to, moves the buckets, and decides the next bell.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  key       idempotency key of the transaction
-- ARGV[3]  step      1-based
-- ARGV[4]  fence     as given to admit
-- ARGV[5]  verdict   JSON, see below
-- ARGV[6]  grace_us  how long a bell may stay unanswered
-- Includes seconds, counter, bucket, breaker, pause, quarantine
-- Includes feedback (obey: counters, pauses and breaker)
-- Includes backlog (may_ring; requeue: state w, in backlog:<flow>:due), pages
-- Includes ending (plan_ending; finish: the job's counts, the dead letter, the final state), lookups
-- Includes restored, attempts, plan (plan_next: which step comes next, or which end)
-- Includes withdraw, reopen, damage, late (take_back: an answer that comes after its lease)
-- Includes result (ring_next: state r, or the backlog; count_down: state t)
-- Reads    tx:<key>, flows, gov; writes gov, tx:<key>, deadlines, retries, attempts; of a 429 job:<job>; then
--          the backlog, active and quarantine, or job:<job>, needs_page and dead
-- Returns  "RING"     the Celery chain goes on: its next link is a bell that is counted
--          "BACKLOG"  the chain stops, the dispatcher will ring
--          "RETRY"    publish Task.retry: the countdown is known to the ledger
--          "END"      the transaction has ended
--          "STALE"    this fence settles nothing: already settled, granted anew, or never admitted
-- Cost     O(limits), 6 to 12 commands; 6 for the usual end
--
-- The verdict, which workers/answer/verdict.py makes. What is absent is left out; a flag is true or absent.
--   tag             "advance" to the next step, or the end; "retry" by Celery's countdown; "requeue" to the
--                   backlog; "finish" the transaction
--   outcome         "executed" | "not_executed" | "unknown"
--   status          HTTP status
--   correlation_id  of the answer
--   remaining       calls that the provider's headers leave; with reset_us, until they leave more
--   values          advance: what later steps need of the answer, one line
--   provider_id     advance: what the provider calls the result
--   attempt         all but advance: this was an attempt
--   error           all but advance: what went wrong, one sentence
--   memo            all but advance: what the next call must know, "" = nothing; absent = as before
--   pause_us        all but advance: how long nothing may leave for what was refused; with pause_reach
--                   "scope" = for the flow's scope, which other refusals may widen, "operation" = for the
--                   flow's scope alone, "client" = for the whole client
--   delay_us        retry, requeue: backoff
--   throttled       requeue: it was a 429
--   part_done       requeue: one part of the step is done, or one poll
--   step_back       requeue: the step before is done once more
--   state           finish: the final state

-- Read: what is stored, and what the verdict says.
local key, step, verdict, grace = ARGV[2], tonumber(ARGV[3]), cjson.decode(ARGV[5]), tonumber(ARGV[6])
local name, advances = tx_key(key), verdict.tag == "advance"
local state, tx_step, fence, flows, steps, job, rows, crashes, answer_lines, attempts, throttled, places,
  is_probe, memo, provider_ids, backup_us, guards, done_calls, generation = unpack(redis.call("HMGET", name,
  TX.state, TX.step, TX.fence, TX.flows, TX.steps, TX.job, TX.rows, TX.crashes, TX.answer_lines,
  TX.attempts, TX.throttled, TX.places, TX.is_probe, TX.memo, TX.provider_ids, TX.backup_us, TX.guards,
  TX.done_calls, TX.generation))
local late = state ~= "s" and take_back(key, ARGV[3], ARGV[4])
if late then state, flows, memo, crashes = "s", late.flows, late.memo, late.crashes end
if state ~= "s" or tonumber(tx_step) ~= step or fence ~= ARGV[4] then return "STALE" end

-- Decide: the next call, or the end.
local goes_on, next_step, next_memo, next_flows, looked, reason, final = plan_next(verdict, step, steps,
  flows, guards, memo, backup_us)
local carried_key = guard_of(guards, step) ~= "r" and not looked
check_counts(job, attempts, throttled, done_calls, crashes)
attempts = tonumber(attempts or 0)
local flow_name, next_name = flow_of(flows, step), flow_of(next_flows, next_step)
plan_pause(verdict)

-- Check the types of all that is written.
local ending = final and plan_ending(key, job, final, tonumber(rows or 1), crashes)
local concerns_all = verdict.pause_us or verdict.remaining or not verdict.status or is_probe
local flow = (concerns_all or not ending) and read_flow(flow_name)
if flow or verdict.throttled or places then redis.call("HLEN", GOV) end
if verdict.throttled then must_be("hash", job_key(job)) end
if not ending then check_requeue_types(next_name) end
local failed = verdict.attempt or verdict.outcome == "unknown" or attempts > 0 or ending and ending.dead
local recorded = failed or looked or late
if recorded then check_record_types() end

-- Write: what all obey, the record of the attempt, and the transaction.
verdict.came_to = came_to(verdict)
obey(verdict, flow, key, is_probe)
if places then free_places(places) end
if places or is_probe then redis.call("HDEL", name, TX.places, TX.is_probe) end
if verdict.throttled then add_to(job_key(job), JOB.throttled, 1) end
if recorded then
  record_attempt(key, step, {job = job, memo = memo, done_calls = done_calls}, verdict)
end
local writes, write = writer({TX.step, next_step, TX.status, verdict.status or "",
  TX.attempts, goes_on and 0 or attempts + (verdict.attempt and 1 or 0)})
write(TX.maybe_executed, verdict.outcome == "unknown" and 1 or goes_on and (backup_us and 1 or 0)
  or looked and not looks(next_memo) and 0) -- after a look-up it is known
if verdict.part_done then write(TX.done_calls, tonumber(done_calls or 0) + 1)
elseif done_calls and next_step ~= step then write(TX.done_calls, 0) end
if next_memo ~= (memo or "") then write(TX.memo, next_memo) end
if goes_on then begin_next(key, crashes, generation, write) end
if next_flows ~= flows then write(TX.flows, next_flows) end
write(TX.throttled, verdict.throttled and tonumber(throttled or 0) + 1)
write(TX.correlation_id, verdict.correlation_id)
write(TX.error, reason or verdict.error)
if advances then keep_answer(verdict, step, steps, answer_lines, provider_ids, write) end
if carried_key and final ~= "succeeded" then write(TX.last_answer_us, now) end

-- The end, or the next bell.
if ending then
  finish(key, ending, reason or verdict.error or "", writes)
  return "END"
end
redis.call("HSET", name, unpack(writes))
local next_flow = advances and next_name ~= flow_name and read_flow(next_name) or flow
if advances then return ring_next(key, next_name, next_flow, flow, grace) end
local due = now + (verdict.delay_us or 0)
if verdict.tag == "retry" and tonumber(crashes or 0) == 0 then return count_down(key, due, grace) end
requeue(key, next_name, flow.lane, due, not goes_on and crashes)
return "BACKLOG"
