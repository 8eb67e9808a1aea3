#!lua flags=allow-oom
-- Gives a transaction whose key is of no more use a fresh one, if surely none of its sends was executed
-- and none can still be under way; else it ends, or waits for that.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us       "" or an integer (tests)
-- ARGV[2]  key          name of the transaction
-- ARGV[3]  step         1-based
-- ARGV[4]  generation   of the key that admit found to be of no more use
-- ARGV[5]  quiet_us     how long ago the newest send must have ended
-- ARGV[6]  generations  most keys under which one step may be sent
-- ARGV[7…] entry        of the audit, as XADD takes it behind the stream's name; the reason is added
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, pages, lookups, waiting, ending
-- Reads    tx:<key>, flows; writes audit, tx:<key>, gov, deadlines, retries, the backlog or the job
-- Returns  "FRESH" it stands in its backlog under a new key, no attempt made
--          "QUIET" it stands in its backlog until its newest send is long over
--          "failed" | "unknown" it has ended
--          "DROP"  not yours: it did not wait for this
-- Cost     O(limits), about 12 commands
local key, generation = ARGV[2], tonumber(ARGV[4])
local name = tx_key(key)
local tx = read_tx(key, [[state step flows maybe_executed job rows crashes generation first_sent_us
  last_answer_us attempts memo first_generation]])
local mine = (tx.state == "r" or tx.state == "t") and tx.step == ARGV[3]
if not mine or tonumber(tx.generation or 1) ~= generation then return "DROP" end

local flow_name = flow_of(tx.flows, tx.step)
local flow = read_flow(flow_name)
local refused = next_call(tx.memo) == "fresh key"
redis.call("HLEN", GOV)
local function take_bell()
  if tx.state == "r" then count_bells(flow.limits, -1) else redis.call("ZREM", RETRIES, key) end
end

-- Why the key is of no more use: as the memo says, else by its age.
local REASONS = {["fresh key"] = "the provider takes it no more",
  ["other request"] = "another request was sent under it"}
local reason = REASONS[next_call(tx.memo)] or "too old for the provider to remember it"

local final, why
if tx.maybe_executed == "1" then
  final = "unknown"
  why = "its key is older than the provider remembers it, and it may have been executed"
elseif generation - tonumber(tx.first_generation or 1) + 1 >= tonumber(ARGV[6]) then
  final = "failed"
  why = "it was never executed under " .. ARGV[6] .. " keys, each of which the provider takes no more"
end
if final then
  local ending = plan_ending(key, tx.job, final, tonumber(tx.rows or 1), tx.crashes)
  take_bell()
  finish(key, ending, why, {TX.error, why})
  return final
end

local quiet = tonumber(tx.last_answer_us or 0) + tonumber(ARGV[5])
must_be("stream", base .. "audit")
check_requeue_types(flow_name)
take_bell()
if quiet > now then
  redis.call("HSET", name, TX.error, "it waits for a fresh key, until its newest send is long over")
  requeue(key, flow_name, flow.lane, quiet, tx.crashes)
  return "QUIET"
end
local entry = {unpack(ARGV, 7)}
for _, text in ipairs({
  "reason", reason,
  "generation", generation + 1, "attempts", tx.attempts or "0",
  "first_sent_us", tx.first_sent_us or "", "last_sent_us", tx.last_answer_us or "",
  "us", string.format("%.0f", now),
}) do entry[#entry + 1] = text end
redis.call("XADD", base .. "audit", unpack(entry))
redis.call("HDEL", name, TX.first_sent_us, TX.last_answer_us, TX.error, TX.sent_digest, TX.counted,
  TX.first_bad_us, TX.waits_from_us)
redis.call("HSET", name, TX.generation, generation + 1, TX.attempts, 0, TX.memo, "")
requeue(key, flow_name, flow.lane, now, tx.crashes)
return "FRESH"
