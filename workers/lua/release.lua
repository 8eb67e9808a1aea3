#!lua flags=allow-oom
-- Releases the permit of a call from outside of jobs: its places are free, and a refusal or the provider's
-- headers are obeyed by all.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us     "" or an integer (tests)
-- ARGV[2]  permit     as given to acquire
-- ARGV[3]  came_to    "good" | "bad" | "neutral" | "refused" | "unsent", see includes/feedback.lua
-- ARGV[4]  pause_us   how long nothing may leave for what was refused, 0 = no pause
-- ARGV[5]  why        the reason of the pause, or what went wrong
-- ARGV[6]  remaining  calls that the provider's headers leave, "" = they say nothing
-- ARGV[7]  reset_us   from now until they leave more
-- ARGV[8]  retry_after_us  no probe goes earlier, 0 = nothing was ordered
-- ARGV[9]  number       of the permit, as acquire gave it
-- ARGV[10] fingerprint  digest of the request, "" = its 429s are judged by themselves
-- Includes wake (need_ring: when somebody is to ring)
-- Includes seconds, counter, bucket, breaker, probes, throttling, evidence, refused_row, refusal_record
-- Includes own_refusals, pause, feedback
-- Reads    tx:<permit>, flows, gov, evidence; writes gov, permits, tx:<permit>, evidence, breaker:<scope>;
--          of a 429 tx:caller:<name>, which a good answer deletes
-- Returns  "RECORDED"
--          "REQUEST"  it is refused while others are not, so it holds nobody: who repeats it waits
--          "ROUTE"    the same of all calls of its flow: none was answered well since one was refused
--          "OVER"     its lease was over
-- Cost     O(limits)
--
-- A permit is new with each call, so a 429 is judged as that of a caller: of all calls of the flow, while
-- none of them was answered well since one was refused, else of all with the same request. A caller is
-- forgotten when such a call is answered well, and KEPT after its pause.
local KEPT = 3600000000
local permit, pause = ARGV[2], tonumber(ARGV[4])
local tx = read_tx(permit, "flows places probe")
if not tx.flows then return "OVER" end
must_be("zset", PERMITS)
redis.call("HLEN", GOV)
local flow = read_flow(tx.flows)
local answer = {came_to = ARGV[3], is_first = true, pause_us = pause > 0 and pause or nil, error = ARGV[5],
  remaining = tonumber(ARGV[6]), reset_us = tonumber(ARGV[7]), number = tonumber(ARGV[9])}
local ordered = tonumber(ARGV[8]) or 0
if ordered > 0 then answer.retry_after_us = ordered end
local of_flow, of_request = "caller:" .. tx.flows, "caller:" .. (ARGV[10] or "")
local callers, word = {}, "RECORDED"
if of_request ~= "caller:" then
  callers, answer.caller, answer.step = {tx_key(of_flow), tx_key(of_request)}, of_request, 0
end
local refused = answer.came_to == "refused" and callers or {}
for _, caller in ipairs(refused) do must_be("hash", caller) end
if refused[1] and redis.call("EXISTS", tx_key(of_flow)) == 1 then answer.caller = of_flow end
plan_feedback(answer, flow, permit, tx.probe)

obey(answer, flow, permit, tx.probe)
for _, caller in ipairs(refused) do
  redis.call("HSET", caller, TX.refused, answer.refusal.own)
  redis.call("PEXPIRE", caller, math.ceil((pause + KEPT) / 1000))
end
if refused[1] and answer.refusal.word then word = answer.caller == of_flow and "ROUTE" or "REQUEST" end
free_places(tx.places)
redis.call("ZREM", PERMITS, permit)
redis.call("DEL", tx_key(permit), unpack(answer.came_to == "good" and callers or {}))
return word
