#!lua flags=allow-oom
-- Puts a bell that could not be answered back: not published, no connection, no token.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  key       idempotency key of the transaction
-- ARGV[3]  step      1-based
-- ARGV[4]  pause_us  how long nothing may leave for this client, 0 = no pause
-- ARGV[5]  why       the reason of the pause, or of the failure, one sentence
-- ARGV[6]  delay_us  > 0: no connection came about; the transaction waits so long, and its scope has one more
--                    bad answer
-- ARGV[7]  kind      of the jobs that the asker serves, whose bell it is; "" = it is the dispatcher
-- ARGV[8]  does      as in admit
-- Includes counter, bucket, breaker, probes, evidence, pause, quarantine, backlog, asker (is_for)
-- Reads    tx:<key>, flows, gov, the job; writes gov, deadlines, retries, the backlog, evidence,
--          breaker:<scope>
-- Returns  1 = it stands in the backlog again, 0 = it was not out, or not for the asker
-- Cost     O(limits)
local key, pause, delay = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[6])
local tx = read_tx(key, "state step flows crashes attempts maybe_executed job")
local state = tx.state
if (state ~= "r" and state ~= "t") or tx.step ~= ARGV[3] then return 0 end
local flow_name = flow_of(tx.flows, tx.step)
local flow = read_flow(flow_name)
if not is_for(ARGV[7], ARGV[8], tx.job, flow.limits) then return 0 end
local probe, probe_from = open_scope(flow, unpack(redis.call("HMGET", GOV, "k:client", "k:" .. flow.scope)))
check_requeue_types(flow_name)
local is_first = (tonumber(tx.attempts) or 0) == 0 and tx.maybe_executed ~= "1"
local failure = {came_to = "bad", is_first = is_first, error = ARGV[5]}
local evidence = delay > 0 and plan_evidence(flow.scope, key, failure)
if probe then must_be("hash", breaker_key(probe)) end
if evidence then
  keep_evidence(evidence)
  if probe and probe_from <= now then miss_probe(probe) end
end
if pause > 0 then pause_flow(flow, pause, ARGV[5], "client") end
if state == "r" then count_bells(flow.limits, -1) end
requeue(key, flow_name, flow.lane, now + delay, tx.crashes)
return 1
