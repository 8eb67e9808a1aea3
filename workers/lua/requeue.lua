#!lua flags=allow-oom
-- Puts a bell that could not be answered back: not published, no connection, no token.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  key       idempotency key of the transaction
-- ARGV[3]  step      1-based
-- ARGV[4]  pause_us  how long nothing may leave for this client, 0 = no pause
-- ARGV[5]  why       the reason of the pause, one sentence
-- Includes counter, bucket, pause, quarantine, backlog
-- Reads    tx:<key>, flows, gov; writes gov, deadlines, retries, the backlog
-- Returns  1 = it stands in the backlog again, 0 = it was not out
-- Cost     O(limits)
local key, pause = ARGV[2], tonumber(ARGV[4])
local tx = read_tx(key, "state step flows crashes")
local state = tx.state
if (state ~= "r" and state ~= "t") or tx.step ~= ARGV[3] then return 0 end
local flow_name = flow_of(tx.flows, tx.step)
local flow = read_flow(flow_name)
redis.call("HLEN", GOV)
check_requeue_types(flow_name)
if pause > 0 then pause_flow(flow, pause, ARGV[5], "client") end
if state == "r" then count_bells(flow.limits, -1) end
requeue(key, flow_name, flow.lane, now, tx.crashes)
return 1
