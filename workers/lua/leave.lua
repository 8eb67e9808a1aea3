#!lua flags=allow-oom
-- Records what a guest's call came to: its places are free, and a refusal or the provider's headers are
-- obeyed by all.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us     "" or an integer (tests)
-- ARGV[2]  guest      as given to enter
-- ARGV[3]  came_to    "answered" | "refused" (429) | "none" (no answer, or of unknown outcome) |
--                     "unsent"
-- ARGV[4]  pause_us   how long nothing may leave for what was refused, 0 = no pause
-- ARGV[5]  why        the reason of the pause
-- ARGV[6]  remaining  calls that the provider's headers leave, "" = they say nothing
-- ARGV[7]  reset_us   from now until they leave more
-- Parts    seconds, cell, breaker, pause
-- Reads    tx:<guest>, flows, gov; writes gov, guests, tx:<guest>
-- Returns  1 = recorded, 0 = its lease was over
-- Cost     O(limits)
local guest, came_to, left = ARGV[2], ARGV[3], tonumber(ARGV[6])
local tx = redis.call("HMGET", tx_key(guest), "fl", "cc", "pb")
if not tx[1] then return 0 end
must_be("zset", GUESTS)
redis.call("HLEN", GOV)
local flow, pause, why = read_flow(tx[1]), tonumber(ARGV[4]), ARGV[5]
if left and pause == 0 then pause, why = pause_of(left, tonumber(ARGV[7])) end

if left then keep_told(flow, left, tonumber(ARGV[7])) end
if pause > 0 then pause_flow(flow, pause, why) end
if tx[3] == "1" then probed(guest, came_to, flow.limits)
elseif came_to == "refused" then refused()
elseif came_to == "unsent" then count("u:") end
free_slots(tx[2])
redis.call("ZREM", GUESTS, guest)
redis.call("DEL", tx_key(guest))
return 1
