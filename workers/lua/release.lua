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
-- Includes seconds, counter, bucket, breaker, probes, throttling, evidence, refused_row, refusal_record
-- Includes own_refusals, pause, feedback
-- Reads    tx:<permit>, flows, gov, evidence; writes gov, permits, tx:<permit>, evidence, breaker:<scope>
-- Returns  1 = recorded, 0 = its lease was over
-- Cost     O(limits)
local permit, pause = ARGV[2], tonumber(ARGV[4])
local tx = read_tx(permit, "flows places probe")
if not tx.flows then return 0 end
must_be("zset", PERMITS)
redis.call("HLEN", GOV)
local flow = read_flow(tx.flows)
local answer = {came_to = ARGV[3], is_first = true, pause_us = pause > 0 and pause or nil, error = ARGV[5],
  remaining = tonumber(ARGV[6]), reset_us = tonumber(ARGV[7])}
local ordered = tonumber(ARGV[8]) or 0
if ordered > 0 then answer.retry_after_us = ordered end
plan_feedback(answer, flow, permit, tx.probe)

obey(answer, flow, permit, tx.probe)
free_places(tx.places)
redis.call("ZREM", PERMITS, permit)
redis.call("DEL", tx_key(permit))
return 1
