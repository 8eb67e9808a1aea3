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
--                    has one more bad answer
-- ARGV[7]  kind      of the jobs that the asker serves, whose bell it is; "" = it is the dispatcher
-- ARGV[8]  does      as in admit
-- Includes counter, bucket, breaker, probes, evidence, pause, quarantine, backlog, asker (is_for)
-- Reads    tx:<key>, flows, gov, the job, oauth; writes gov, deadlines, retries, the backlog, evidence,
--          breaker:<scope>
-- Returns  1 = it stands in the backlog again, 2 = so it does, and the client is paused; 0 = it was not out,
--          or not for the asker
-- Cost     O(limits)

-- Whether the store has no valid token, and the provider gave none to whoever asked last. A refused secret is
-- that of one worker.
local function is_token_away()
  local generation, refused, expires, failed_until, failure_refused = unpack(redis.call("HMGET",
    base .. "oauth", "generation", "refused", "expires_us", "failed_until_us", "failure_refused"))
  local usable = generation and generation ~= refused and now < (tonumber(expires) or 0)
  return not usable and failure_refused ~= "1" and now < (tonumber(failed_until) or 0)
end

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
local failed = delay > 0 and ARGV[5] ~= ""
local evidence = failed and plan_evidence(flow.scope, key, failure)
local pauses = pause > 0 and is_token_away()
if probe then must_be("hash", breaker_key(probe)) end
if evidence then
  keep_evidence(evidence)
  if probe and probe_from <= now then miss_probe(probe) end
end
if pauses then pause_flow(flow, pause, ARGV[5], "client") end
if state == "r" then count_bells(flow.limits, -1) end
requeue(key, flow_name, flow.lane, now + delay, tx.crashes)
return pauses and 2 or 1
