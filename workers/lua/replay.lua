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
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, lookups, pages, reopen
-- Reads    tx:<key>, flows; writes dead, audit, the job, needs_page, gov, the backlog, tx:<key>
-- Returns  "WAITS"     it stands in its backlog
--          "NOT_DEAD"  it did not end so, or this letter was answered: nothing was written
--          "UNSURE"    its last send may have been executed, and no guard makes a second one
--                      harmless: nothing was written
-- Cost     O(log of what waits), about 25 commands
local key, letter, not_executed = ARGV[2], ARGV[3], ARGV[4] == "1"
local name = tx_key(key)
local tx = read_tx(key, "state dead_letter step guards attempts memo flows job rows generation")
local state, step = tx.state, tx.step
if (state ~= "failed" and state ~= "unknown") or tx.dead_letter ~= letter then return "NOT_DEAD" end

-- What failed was surely not executed. Under guard `lookup` that is believed for one re-send, not for
-- good: after vain attempts it is asked once more.
local guard = guard_of(tx.guards, step)
local doubt = state == "unknown" or guard == "l" and tonumber(tx.attempts or 0) > 0
if not_executed then doubt = false end
if doubt and guard == "n" then return "UNSURE" end
local next_memo = doubt and guard == "l" and LOOK_UP or ""
local next_flows = looks(next_memo) ~= looks(tx.memo) and changed_over(tx.flows, step) or tx.flows
local flow_name = flow_of(next_flows, step)
local flow = read_flow(flow_name)
must_be("stream", base .. "audit")
must_be("hash", GOV)
check_requeue_types(flow_name)
local reopening = plan_reopening(tx)

redis.call("XADD", base .. "audit", unpack(ARGV, 5))
reopen(reopening)
add_to(job_key(tx.job), JOB.replayed, reopening.rows)
redis.call("HDEL", name, TX.dead_letter, TX.error, TX.crashes, TX.counted, TX.first_bad_us, TX.waits_from_us,
  TX.swept, TX.refused)
if not_executed then redis.call("HDEL", name, TX.backup_us) end -- then no later step was sent either
-- A poll waits as long again; parts of a step that are done stay done.
if guard == "r" then redis.call("HDEL", name, TX.done_calls) end
redis.call("HSET", name, TX.attempts, 0, TX.maybe_executed, doubt and 1 or 0, TX.memo, next_memo,
  TX.flows, next_flows, TX.first_generation, tx.generation or 1)
requeue(key, flow_name, flow.lane, now, 0)
return "WAITS"
