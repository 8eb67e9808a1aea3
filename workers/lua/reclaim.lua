#!lua flags=allow-oom
-- Puts back a grant that the store has forgotten, on the word of the process that had it: the call may have
-- been sent. The transaction is sent again, with a new lease; its answer may be settled as ever, and if none
-- comes, the sweep does what its guard says.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  key       idempotency key of the transaction
-- ARGV[3]  job       its job
-- ARGV[4]  step      1-based
-- ARGV[5]  fence     that of the grant
-- ARGV[6]  number    that of the grant
-- ARGV[7]  lease_us  how long nobody else may touch the transaction
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, withdraw, run (moment_of: when it was granted)
-- Reads    tx:<key>, flows, the job; writes gov, deadlines, reclaimed, retries, quarantine, the backlog,
--          tx:<key>, or the job
-- Returns  "SENT"   it is out again
--          "LATER"  it stands before this step: this step and those after it may have been sent
--          "PAGE"   its page is not open: what is on pages that are not open may have been sent
--          "KNOWN"  it has ended, or has this grant, or is past this step: nothing was forgotten
--          "GONE"   its job is not there either
-- Cost     O(length of its backlog), about 15 commands
local key, job, step, fence = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
must_be("hash", GOV)
local sent_us = moment_of(tonumber(ARGV[6]))
local tx = read_tx(key, "state step flows first_sent_us fence places backup_us")
local state, tx_step = tx.state, tonumber(tx.step or 0)
if not state then
  local since = redis.call("HGET", job_key(job), JOB.backup_us)
  if redis.call("EXISTS", job_key(job)) == 0 then return "GONE" end
  redis.call("HSET", job_key(job), JOB.backup_us, math.min(tonumber(since) or sent_us, sent_us))
  return "PAGE"
end
if #state > 1 or tx_step > step or tx.fence == fence then return "KNOWN" end -- a final state is a word
if tx_step < step then
  redis.call("HSET", tx_key(key), TX.backup_us, tx.backup_us or sent_us)
  return "LATER"
end

local flow_name = flow_of(tx.flows, step)
local flow = read_flow(flow_name)
check_requeue_types(flow_name)
must_be("list", backlog_key(flow_name))
must_be("zset", base .. "reclaimed")
withdraw(key, state, flow_name, flow)
leave_quarantine(key)
redis.call("ZADD", DEADLINES, now + ARGV[7], key)
redis.call("ZADD", base .. "reclaimed", now + ARGV[7], key)
redis.call("PEXPIRE", base .. "reclaimed", math.ceil(ARGV[7] / 1000))
redis.call("HSET", tx_key(key), TX.first_sent_us, tx.first_sent_us or sent_us, TX.fence, fence,
  TX.state, "s")
return "SENT"
