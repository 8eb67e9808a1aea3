#!lua flags=allow-oom
-- Gives back a bell that could not be answered: not published, no connection, no token.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  key       idempotency key of the transaction
-- ARGV[3]  step      1-based
-- ARGV[4]  pause_us  how long nothing may leave for this client, 0 = no pause
-- ARGV[5]  why       the reason of the pause, one sentence
-- Parts    cell, pause, line
-- Reads    tx:<key>, flows, gov; writes gov, touch, retries, the line
-- Returns  1 = it stands in the line again, 0 = it was not out
-- Cost     O(limits)
local key = ARGV[2]
local tx = redis.call("HMGET", tx_key(key), "s", "k", "fl", "cr")
if (tx[1] ~= "r" and tx[1] ~= "t") or tx[2] ~= ARGV[3] then return 0 end
local id = flow_of(tx[3], tx[2])
local flow = read_flow(id)
redis.call("HLEN", GOV)
may_line(id)
local pause = tonumber(ARGV[4])
if pause > 0 then pause_flow(flow, pause, ARGV[5], true) end
if tx[1] == "r" then count_bells(flow.limits, -1) end
to_line(key, id, flow.lane, now, tx[4])
return 1
