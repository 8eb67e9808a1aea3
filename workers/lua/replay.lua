#!lua
-- Lets a transaction that ended without success wait again, under its key, at the step where it
-- stopped: what includes/ending.lua did to it, taken back.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us        "" or an integer (tests)
-- ARGV[2]  key           idempotency key of the transaction
-- ARGV[3]  letter        its entry among the dead letters
-- ARGV[4]  not_executed  1 = a person states that its last send was not executed, else 0
-- ARGV[5…] the entry of the audit
-- Includes bucket, backlog, lookups
-- Reads    tx:<key>, flows; writes dead, audit, the job, needs_page, gov, the backlog, tx:<key>
-- Returns  "WAITS"     it stands in its backlog
--          "NOT_DEAD"  it did not end so, or this letter was answered: nothing was written
--          "UNSURE"    its last send may have been executed, and no guard makes a second one
--                      harmless: nothing was written
-- Cost     O(log of what waits), about 25 commands
local key, letter, not_executed = ARGV[2], ARGV[3], ARGV[4] == "1"
local name = tx_key(key)
local state, tx_letter, step, guards, attempts, memo, flows, job, rows, generation = unpack(redis.call(
  "HMGET", name, "s", "d", "k", "g", "at", "m", "fl", "j", "r", "gn"))
if (state ~= "failed" and state ~= "unknown") or tx_letter ~= letter then return "NOT_DEAD" end

-- What failed was surely not executed. Under guard `lookup` that is believed for one re-send, not for
-- good: after vain attempts it is asked once more.
local guard = guard_of(guards, step)
local doubt = state == "unknown" or guard == "l" and tonumber(attempts or 0) > 0
if not_executed then doubt = false end
if doubt and guard == "n" then return "UNSURE" end
local next_memo = doubt and guard == "l" and LOOK_UP or ""
local next_flows = looks(next_memo) ~= looks(memo) and changed_over(flows, step) or flows
local flow_name = flow_of(next_flows, step)
local flow = read_flow(flow_name)
must_be("stream", base .. "dead")
must_be("stream", base .. "audit")
must_be("set", NEEDS_PAGE)
must_be("hash", GOV)
may_requeue(flow_name)
local released, finished, low = unpack(redis.call("HMGET", job_key(job), "released", "finished_tx", "low"))

redis.call("XDEL", base .. "dead", letter)
redis.call("XADD", base .. "audit", unpack(ARGV, 5))
rows = tonumber(rows or 1)
redis.call("HINCRBY", job_key(job), state, -rows)
redis.call("HINCRBY", job_key(job), "ended", -rows)
redis.call("HINCRBY", job_key(job), "replayed", rows)
redis.call("HINCRBY", job_key(job), "finished_tx", -1)
redis.call("HDEL", job_key(job), "finished_us")
if released - finished + 1 >= tonumber(low or 0) then redis.call("SREM", NEEDS_PAGE, job) end
redis.call("HDEL", name, "d", "e", "cr")
if not_executed then redis.call("HDEL", name, "b") end -- then no later step was sent either
if guard == "r" then redis.call("HDEL", name, "pt") end -- a poll waits as long again; parts stay done
redis.call("HSET", name, "at", 0, "u", doubt and 1 or 0, "m", next_memo, "fl", next_flows,
  "g0", generation or 1)
requeue(key, flow_name, flow.lane, now, 0)
return "WAITS"
