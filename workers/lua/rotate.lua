#!lua flags=allow-oom
-- Gives a transaction whose key has grown old a fresh one, if surely none of its sends was executed
-- and none can still be under way; else it ends, or waits for that.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us       "" or an integer (tests)
-- ARGV[2]  key          name of the transaction
-- ARGV[3]  step         1-based
-- ARGV[4]  generation   of the key that admit found too old
-- ARGV[5]  quiet_us     how long ago the newest send must have ended
-- ARGV[6]  generations  most keys under which one step may be sent
-- ARGV[7…] entry        of the audit, as XADD takes it behind the stream's name; the reason is added
-- Includes bucket, backlog, ending, lookups
-- Reads    tx:<key>, flows; writes audit, tx:<key>, gov, deadlines, retries, the backlog or the job
-- Returns  "FRESH" it stands in its backlog under a new key, no attempt made
--          "QUIET" it stands in its backlog until its newest send is long over
--          "failed" | "unknown" it has ended
--          "DROP"  not yours: it did not wait for this
-- Cost     O(limits), about 12 commands
local key, generation = ARGV[2], tonumber(ARGV[4])
local name = tx_key(key)
local state, step, flows, maybe_executed, job, rows, crashes, tx_generation, first_sent, last_answer,
  attempts, memo, first_generation = unpack(redis.call("HMGET", name, "s", "k", "fl", "u", "j", "r", "cr",
  "gn", "t1", "t2", "at", "m", "g0"))
local mine = (state == "r" or state == "t") and step == ARGV[3]
if not mine or tonumber(tx_generation or 1) ~= generation then return "DROP" end

local flow_name = flow_of(flows, step)
local flow = read_flow(flow_name)
redis.call("HLEN", GOV)
local function take_bell()
  if state == "r" then count_bells(flow.limits, -1) else redis.call("ZREM", RETRIES, key) end
end

local ended, why
if maybe_executed == "1" then
  ended = "unknown"
  why = "its key is older than the provider remembers it, and it may have been executed"
elseif generation - tonumber(first_generation or 1) + 1 >= tonumber(ARGV[6]) then
  ended = "failed"
  why = "it was never executed under " .. ARGV[6] .. " keys, each of which the provider takes no more"
end
if ended then
  local ends = ending(key, job, ended, tonumber(rows or 1), crashes)
  take_bell()
  finish(key, ends, why, {"e", why})
  return ended
end

local quiet = tonumber(last_answer or 0) + tonumber(ARGV[5])
must_be("stream", base .. "audit")
may_requeue(flow_name)
take_bell()
if quiet > now then
  redis.call("HSET", name, "e", "it waits for a fresh key, until its newest send is long over")
  requeue(key, flow_name, flow.lane, quiet, crashes)
  return "QUIET"
end
local refused = next_call(memo) == "fresh key"
local entry = {unpack(ARGV, 7)}
for _, text in ipairs({
  "reason", refused and "the provider takes it no more" or "too old for the provider to remember it",
  "generation", generation + 1, "attempts", attempts or "0",
  "first_sent_us", first_sent or "", "last_sent_us", last_answer or "", "us", string.format("%.0f", now),
}) do entry[#entry + 1] = text end
redis.call("XADD", base .. "audit", unpack(entry))
redis.call("HDEL", name, "t1", "t2", "e")
redis.call("HSET", name, "gn", generation + 1, "at", 0, "m", "")
requeue(key, flow_name, flow.lane, now, crashes)
return "FRESH"
