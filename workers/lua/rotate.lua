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
-- Parts    cell, line, ending, looking
-- Reads    tx:<key>, flows; writes audit, tx:<key>, gov, touch, retries, the line or the job
-- Returns  "FRESH" it stands in its line under a new key, no attempt made
--          "QUIET" it stands in its line until its newest send is long over
--          "failed" | "unknown" it has ended
--          "DROP"  not yours: it did not wait for this
-- Cost     O(limits), about 12 commands
local key, generation = ARGV[2], tonumber(ARGV[4])
local tx = redis.call("HMGET", tx_key(key),
  "s", "k", "fl", "u", "j", "r", "cr", "gn", "t1", "t2", "at", "m", "g0")
local state = tx[1]
if state ~= "r" and state ~= "t" or tx[2] ~= ARGV[3] or tonumber(tx[8] or 1) ~= generation then return "DROP" end

local id = flow_of(tx[3], tx[2])
local flow = read_flow(id)
redis.call("HLEN", GOV)
local function leave_bell() if state == "r" then count_bells(flow.limits, -1) else redis.call("ZREM", RETRIES, key) end end

local ended, why
if tx[4] == "1" then
  ended, why = "unknown", "its key is older than the provider remembers it, and it may have been executed"
elseif generation - tonumber(tx[13] or 1) + 1 >= tonumber(ARGV[6]) then
  ended, why = "failed", "it was never executed under " .. ARGV[6] .. " keys, each of which the provider takes no more"
end
if ended then
  local ends = ending(key, tx[5], ended, tonumber(tx[6] or 1), tx[7])
  leave_bell()
  finish(key, ends, why, {"e", why})
  return ended
end

local quiet = tonumber(tx[10] or 0) + tonumber(ARGV[5])
must_be("stream", base .. "audit")
may_line(id)
leave_bell()
if quiet > now then
  redis.call("HSET", tx_key(key), "e", "it waits for a fresh key, until its newest send is long over")
  to_line(key, id, flow.lane, quiet, tx[7])
  return "QUIET"
end
local entry = {unpack(ARGV, 7)}
for _, text in ipairs({
  "reason", refuses(tx[12]) and "the provider takes it no more" or "too old for the provider to remember it",
  "generation", generation + 1, "attempts", tx[11] or "0",
  "first_sent_us", tx[9] or "", "last_sent_us", tx[10] or "", "us", string.format("%.0f", now),
}) do entry[#entry + 1] = text end
redis.call("XADD", base .. "audit", unpack(entry))
redis.call("HDEL", tx_key(key), "t1", "t2", "e")
redis.call("HSET", tx_key(key), "gn", generation + 1, "at", 0, "m", "")
to_line(key, id, flow.lane, now, tx[7])
return "FRESH"
