#!lua flags=allow-oom
-- Puts a bell that could not be answered back: not published, no connection, no token.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  key       idempotency key of the transaction
-- ARGV[3]  step      1-based
-- ARGV[4]  pause_us  > 0: no token came. Nothing may leave for this client so long, if nobody has a token and
--                    nobody may ask for one just now; else that is a matter of the caller's alone
-- ARGV[5]  why       the reason of the pause, or of the failure, one sentence; "" = neither
-- ARGV[6]  delay_us  how long the transaction waits. With a reason no connection came about, and its scope
--                    has one more bad answer, unless that is a matter of the caller's alone
-- ARGV[7]  kind      of the jobs that the asker serves, whose bell it is; "" = it is the dispatcher
-- ARGV[8]  does      as in admit
-- ARGV[9]  process   who could not connect; "" or absent = it is not known, and the failure is the provider's
-- ARGV[10] failing_us  for how long this process has not been able to connect
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, breaker, probes, evidence, pause, quarantine, backlog, asker (is_for)
-- Includes ways (fails_alone: whether others can connect)
-- Reads    tx:<key>, flows, gov, the job, oauth; writes gov, deadlines, retries, the backlog, evidence,
--          breaker:<scope>, unconnected
-- Returns  1 = it stands in the backlog again, 2 = so it does, and the client is paused, 3 = so it does, at
--          once: that no connection came about is a matter of the caller's alone; 0 = it was not out, or not
--          for the asker
-- Cost     O(limits); where no connection came about, O(fields of gov)

-- Whether the store has no valid token, and the provider gave none to whoever asked last. A refused secret is
-- that of one worker.
local function is_token_away()
  local generation, refused, expires, failed_until, failure_refused = unpack(redis.call("HMGET",
    base .. "oauth", "generation", "refused", "expires_us", "failed_until_us", "failure_refused"))
  local usable = generation and generation ~= refused and now < (tonumber(expires) or 0)
  return not usable and failure_refused ~= "1" and now < (tonumber(failed_until) or 0)
end

-- Whether it is the caller's alone that no connection came about. While a breaker is open nobody knows who
-- can connect, except after a probe that was answered well.
local function is_own(process, probe)
  if (process or "") == "" or not fails_alone(process) then return false end
  return not probe or (tonumber(redis.call("HGET", breaker_key(probe), "good")) or 0) > 0
end

local key, pause, delay, process = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[6]), ARGV[9]
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
local failed = delay > 0 and ARGV[5] ~= ""
local own = failed and is_own(process, probe)
local evidence = failed and not own and plan_evidence(flow.scope, key, failure)
local pauses = pause > 0 and is_token_away()
if probe then must_be("hash", breaker_key(probe)) end
if failed then must_be("hash", UNCONNECTED) end
if evidence then
  keep_evidence(evidence)
  if probe and probe_from <= now then miss_probe(probe) end
end
if failed and (process or "") ~= "" then keep_unconnected(process, tonumber(ARGV[10]) or 0) end
if pauses then pause_flow(flow, pause, ARGV[5], "client") end
if state == "r" then count_bells(flow.limits, -1) end
requeue(key, flow_name, flow.lane, own and now or now + delay, tx.crashes)
return pauses and 2 or own and 3 or 1
