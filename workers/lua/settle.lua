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
-- ARGV[7]  number    of the grant, as admit gave it
-- Includes wake (need_ring: when somebody is to ring)
-- Includes seconds, counter, bucket, breaker, probes, throttling, pause, quarantine
-- Includes evidence (ATTEMPT, is_troubled: whether a bad answer is the fault of its row)
-- Includes refused_row, refusal_record, own_refusals (whether a 429 is its row's: refused of tx:<key>)
-- Includes feedback (read_verdict; plan_feedback, obey: counters, pauses and breakers)
-- Includes backlog (may_ring; requeue: state w, in backlog:<flow>:due), pages
-- Includes lookups, giving_up (plan_attempts: what this answer counts, and whether its row ends by that)
-- Includes waiting (due_of, wake: transactions that wait for another one)
-- Includes ending (plan_ending; finish: the job's counts, the dead letter, the final state)
-- Includes restored, attempts, plan (plan_next: which step comes next, or which end)
-- Includes withdraw, reopen, damage, late (take_back: an answer that comes after its lease)
-- Includes result (ring_next: state r, or the backlog; count_down: state t)
-- Reads    tx:<key>, flows, gov; writes gov, tx:<key>, deadlines, retries, attempts; of a 429 job:<job>; then
--          the backlog, active and quarantine, or job:<job>, needs_page and dead; waiters:<key>, and the
--          backlogs of those
-- Returns  "RING"     the Celery chain goes on: its next link is a bell that is counted
--          "BACKLOG"  the chain stops, the dispatcher will ring
--          "APART"    as BACKLOG: it is refused while others are not, so it alone waits, for the first time
--          "STILL_APART"  the same, not for the first time
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
--   sent_digest     all but advance: digest of the request that went out under the key
--   health          "bad" where the provider failed, "neutral" where its answer says nothing of how it does
--   of_token        of a bad answer: it is a 401
--   is_first        of a bad answer: its row was never sent before, under this call
--   retry_after_us  of a bad answer: no probe goes earlier
--   attempt         all but advance: this was an attempt; a bad answer counts as evidence.lua says
--   give_up         retry, requeue: when it ends in place of going again: the final state, the most attempts
--                   after the first one, absent = any number, and patience_us, how long it may go on so
--   error           all but advance: what went wrong, one sentence
--   memo            all but advance: what the next call must know, "" = nothing; absent = as before
--   pause_us        all but advance: how long nothing may leave for what was refused; with pause_reach
--                   "scope" = for the flow's scope, which other refusals may widen, "client" = for the
--                   whole client
--   pause_most_us   of a pause that the provider did not order: how long it may become where refusal follows
--                   upon refusal, see own_refusals.lua
--   delay_us        retry, requeue: backoff
--   throttled       requeue: it was a 429
--   part_done       requeue: one part of the step is done, or one poll
--   step_back       requeue: the step before is done once more
--   waits_for       requeue: transaction for which it waits, until that has done its step waits_for_step, or
--                   has ended, and delay_us at most
--   state           finish: the final state

-- Read: what is stored, and what the verdict says.
local key, step, verdict, grace = ARGV[2], tonumber(ARGV[3]), read_verdict(ARGV), tonumber(ARGV[6])
local name, advances = tx_key(key), verdict.tag == "advance"
local state, tx_step, fence, flows, steps, job, rows, crashes, answer_lines, attempts, throttled, places,
  probe, memo, provider_ids, backup_us, guards, done_calls, generation, counted, first_bad_us, waits_from_us,
  sent_digest, awaited, sends = unpack(redis.call("HMGET", name, TX.state, TX.step, TX.fence, TX.flows,
  TX.steps, TX.job, TX.rows, TX.crashes, TX.answer_lines, TX.attempts, TX.throttled, TX.places, TX.probe,
  TX.memo, TX.provider_ids, TX.backup_us, TX.guards, TX.done_calls, TX.generation, TX.counted,
  TX.first_bad_us, TX.waits_from_us, TX.sent_digest, TX.awaited, TX.sends))
local late = state ~= "s" and take_back(key, ARGV[3], ARGV[4])
if late then state, flows, memo, crashes, sends = "s", late.flows, late.memo, late.crashes, late.sends end
if state ~= "s" or tonumber(tx_step) ~= step or fence ~= ARGV[4] then return "STALE" end

-- Decide: what all obey, the next call, or the end.
local flow_name = flow_of(flows, step)
local flow = (probe or concerns_others(verdict) or is_troubled()) and read_flow(flow_name)
if flow then plan_feedback(verdict, flow, key, probe) end
local count, since, waits_from = plan_attempts(verdict, flow, flows, counted, first_bad_us, waits_from_us)
local goes_on, next_step, next_memo, next_flows, looked, reason, final = plan_next(verdict, step, steps,
  flows, guards, memo, backup_us)
local carried_key = guard_of(guards, step) ~= "r" and not looked
attempts, sends = check_counts(job, attempts, sends, throttled, done_calls, crashes)
local next_name = flow_of(next_flows, next_step)

-- Check the types of all that is written from here on; take_back has checked all that a late answer writes
-- before its own first write.
local ending = final and plan_ending(key, job, final, tonumber(rows or 1), crashes, awaited)
flow = flow or not ending and read_flow(flow_name)
local next_flow = not ending and next_name ~= flow_name and read_flow(next_name) or flow
if flow or verdict.throttled or places then redis.call("HLEN", GOV) end
if verdict.throttled then must_be("hash", job_key(job)) end
if not ending then check_requeue_types(next_name) end
local failed = verdict.attempt or verdict.outcome == "unknown" or attempts > 0 or ending and ending.dead
local recorded = failed or looked or late
if recorded then check_record_types() end

-- Write: what all obey, the record of the attempt, and the transaction.
obey(verdict, flow, key, probe)
end_call(key, places, probe)
if verdict.throttled then add_to(job_key(job), JOB.throttled, 1) end
if recorded then record_attempt(key, step, {job = job, memo = memo, done_calls = done_calls}, verdict) end
local writes, write = writer({TX.step, next_step, TX.status, verdict.status or "",
  TX.attempts, goes_on and 0 or attempts + (verdict.attempt and 1 or 0), TX.sends, sends + sent(verdict)})
write(TX.maybe_executed, verdict.outcome == "unknown" and 1 or goes_on and (backup_us and 1 or 0)
  or looked and not looks(next_memo) and 0) -- after a look-up it is known
if verdict.part_done then write(TX.done_calls, tonumber(done_calls or 0) + 1)
elseif done_calls and next_step ~= step then write(TX.done_calls, 0) end
if next_memo ~= (memo or "") then write(TX.memo, next_memo) end
if goes_on then begin_next(key, crashes, generation, sent_digest, write)
else write(TX.sent_digest, verdict.sent_digest) end
if next_flows ~= flows then write(TX.flows, next_flows) end
if since or count > 0 then keep_attempts(key, count, since, waits_from, goes_on, write) end
write(TX.throttled, verdict.throttled and tonumber(throttled or 0) + 1)
write(TX.correlation_id, verdict.correlation_id)
write(TX.error, reason or verdict.error)
if advances then keep_answer(verdict, step, steps, answer_lines, provider_ids, write) end
if carried_key and final ~= "succeeded" then write(TX.last_answer_us, now) end

-- The end, or the next bell.
if ending then return finish(key, ending, reason or verdict.error or "", writes) end
redis.call("HSET", name, unpack(writes))
if advances then
  wake(key, awaited, step)
  return ring_next(key, next_name, next_flow, flow, grace)
end
local due = due_of(verdict, key, next_step, next_name)
if verdict.tag == "retry" and tonumber(crashes or 0) == 0 then return count_down(key, due, grace) end
requeue(key, next_name, flow.lane, due, not goes_on and crashes)
return verdict.refusal and verdict.refusal.word or "BACKLOG"
