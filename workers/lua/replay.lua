#!lua
-- Lets a transaction that ended without success wait again, under its key, at the step where it
-- stopped: what parts/ending.lua did to it, taken back.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us        "" or an integer (tests)
-- ARGV[2]  key           idempotency key of the transaction
-- ARGV[3]  letter        its entry among the dead letters
-- ARGV[4]  not_executed  1 = a person states that its last send was not executed, else 0
-- ARGV[5…] the entry of the audit
-- Parts    cell, line, looking
-- Reads    tx:<key>, flows; writes dead, audit, the job, hungry, gov, the line, tx:<key>
-- Returns  "WAITS"     it stands in its line
--          "NOT_DEAD"  it did not end so, or this letter was answered: nothing was written
--          "UNSURE"    its last send may have been executed, and no guard makes a second one
--                      harmless: nothing was written
-- Cost     O(log of what waits), about 25 commands
local key, letter = ARGV[2], ARGV[3]
local name = tx_key(key)
local tx = redis.call("HMGET", name, "s", "d", "k", "g", "at", "m", "fl", "j", "r", "gn")
local state, step, job = tx[1], tx[3], tx[8]
if (state ~= "failed" and state ~= "unknown") or tx[2] ~= letter then return "NOT_DEAD" end

-- What failed was surely not executed. Under guard `lookup` that is believed for one re-send, not for
-- good: after vain attempts it is asked once more.
local guard = guard_of(tx[4], step)
local doubt = state == "unknown" or guard == "l" and tonumber(tx[5] or 0) > 0
if ARGV[4] == "1" then doubt = false end
if doubt and guard == "n" then return "UNSURE" end
local memo = doubt and guard == "l" and "l" or ""
local flows = looks(memo) ~= looks(tx[6]) and changed_over(tx[7], step) or tx[7]
local id = flow_of(flows, step)
local flow = read_flow(id)
must_be("stream", base .. "dead")
must_be("stream", base .. "audit")
must_be("set", HUNGRY)
must_be("hash", GOV)
may_line(id)
local counted = redis.call("HMGET", job_key(job), "released", "finished_tx", "low")

redis.call("XDEL", base .. "dead", letter)
redis.call("XADD", base .. "audit", unpack(ARGV, 5))
local rows = tonumber(tx[9] or 1)
redis.call("HINCRBY", job_key(job), state, -rows)
redis.call("HINCRBY", job_key(job), "ended", -rows)
redis.call("HINCRBY", job_key(job), "replayed", rows)
redis.call("HINCRBY", job_key(job), "finished_tx", -1)
redis.call("HDEL", job_key(job), "finished_us")
if counted[1] - counted[2] + 1 >= tonumber(counted[3] or 0) then redis.call("SREM", HUNGRY, job) end
redis.call("HDEL", name, "d", "e", "cr")
if ARGV[4] == "1" then redis.call("HDEL", name, "b") end -- then no later step was sent either
if guard == "r" then redis.call("HDEL", name, "pt") end -- a poll waits as long again; parts stay done
redis.call("HSET", name, "at", 0, "u", doubt and 1 or 0, "m", memo, "fl", flows, "g0", tx[10] or 1)
to_line(key, id, flow.lane, now, 0)
return "WAITS"
