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
-- Includes seconds, bucket, breaker, pause, feedback, backlog, ending, lookups, restored, attempts, result
-- Reads    tx:<key>, flows, gov; writes gov, tx:<key>, deadlines, retries, attempts, the backlog or the job
-- Returns  "RING"     the Celery chain goes on: its next link is a bell that is counted
--          "BACKLOG"  the chain stops, the dispatcher will ring
--          "RETRY"    publish Task.retry: the countdown is known to the ledger
--          "END"      the transaction has ended
--          "STALE"    this fence settles nothing: already settled, taken over, or never admitted
-- Cost     O(limits), 6 to 12 commands; 6 for the usual end
--
-- The verdict, which workers/answer/verdict.py makes. What is absent is left out; a flag is true or absent.
--   kind            "advance" to the next step, or the end; "retry" by Celery's countdown; "requeue" to the
--                   backlog; "finish" the transaction
--   outcome         "executed" | "not_executed" | "unknown"
--   status          HTTP status
--   correlation_id  of the answer
--   remaining       calls that the provider's headers leave, with reset_us, from now until they leave more
--   answer          advance: the answer to keep for later steps, one line
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
local name, advances = tx_key(key), verdict.kind == "advance"
local state, tx_step, fence, flows, steps, job, rows, crashes, answers, attempts, throttled, places, is_probe,
  memo, provider_ids, backup, guards, done_calls, generation = unpack(redis.call("HMGET", name, "s", "k",
  "f", "fl", "n", "j", "r", "cr", "an", "at", "th", "cc", "pb", "m", "ids", "b", "g", "pt", "gn"))
if state ~= "s" or tonumber(tx_step) ~= step or fence ~= ARGV[4] then return "STALE" end
memo, attempts = memo or "", tonumber(attempts or 0)

-- Decide: the next call, or the end.
local goes_on = verdict.part_done or verdict.step_back or advances and step < tonumber(steps)
local next_step = verdict.step_back and step - 1 or advances and goes_on and step + 1 or step
local next_memo, next_flows, lost = advances and "" or verdict.memo or memo, flows, nil
if not advances and looks(next_memo) ~= looks(memo) then next_flows = changed_over(flows, step) end
if goes_on and backup then
  next_flows, next_memo, lost = maybe_sent(guards, next_flows, next_step, next_memo)
end
local final = verdict.state or lost and "unknown" or advances and not goes_on and "succeeded"
local flow_name, next_name = flow_of(flows, step), flow_of(next_flows, next_step)
plan_pause(verdict)

-- Check the types of all that is written.
local ends = final and ending(key, job, final, tonumber(rows or 1), crashes)
local heeded = verdict.pause_us or verdict.remaining or not verdict.status or is_probe
local flow = (heeded or not ends) and read_flow(flow_name)
if flow or verdict.throttled or places then redis.call("HLEN", GOV) end
if verdict.throttled then must_be("hash", job_key(job)) end
if not ends then may_requeue(next_name) end
local failed = verdict.attempt or verdict.outcome == "unknown" or attempts > 0 or ends and ends.dead
if failed or looks(memo) then may_record() end

-- Write: what all obey, the record of the attempt, and the transaction.
verdict.came_to = came_to(verdict)
obey(verdict, flow, key, is_probe)
if places then free_places(places) end
if places or is_probe then redis.call("HDEL", name, "cc", "pb") end
if verdict.throttled then redis.call("HINCRBY", job_key(job), "throttled", 1) end
if failed or looks(memo) then
  record_attempt({key = key, job = job, step = step, part = done_calls, memo = memo}, verdict)
end
local total = goes_on and 0 or attempts + (verdict.attempt and 1 or 0)
local writes, also = writer({"k", next_step, "st", verdict.status or "", "at", total})
also("u", verdict.outcome == "unknown" and 1 or goes_on and (backup and 1 or 0)
  or looks(memo) and not looks(next_memo) and 0) -- after a look-up it is known
if verdict.part_done then also("pt", tonumber(done_calls or 0) + 1)
elseif done_calls and next_step ~= step then also("pt", 0) end
if next_memo ~= memo then also("m", next_memo) end
if goes_on then begin_next(key, crashes, generation, also) end
if next_flows ~= flows then also("fl", next_flows) end
also("th", verdict.throttled and tonumber(throttled or 0) + 1)
also("co", verdict.correlation_id)
also("e", lost or verdict.error)
if advances then keep_answer(verdict, step, steps, {answers = answers, ids = provider_ids}, also) end
if final ~= "succeeded" and guard_of(guards, step) ~= "r" and not looks(memo) then also("t2", now) end

-- The end, or the next bell.
if ends then
  finish(key, ends, lost or verdict.error or "", writes)
  return "END"
end
redis.call("HSET", name, unpack(writes))
local next_flow = advances and next_name ~= flow_name and read_flow(next_name) or flow
if advances then return ring_next(key, next_name, next_flow, flow, grace) end
local due = now + (verdict.delay_us or 0)
if verdict.kind == "retry" and tonumber(crashes or 0) == 0 then return count_down(key, due, grace) end
requeue(key, next_name, flow.lane, due, not goes_on and crashes)
return "BACKLOG"
