#!lua flags=allow-oom
-- Marks what may have been sent after the backup from which the store was restored: transactions of a
-- job that have not ended, and the job's pages that are not open yet (lua/open.lua). Workers must not
-- run meanwhile. What has the mark of this backup is left as it is.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job
-- ARGV[3]  at_us   the moment of the backup
-- ARGV[4]  dry     1 = only tell what would be done, else 0
-- ARGV[5…] key     of its transactions, idempotency keys
-- Parts    cell, line, ending, looking, restored
-- Reads    tx:<key>, flows, the job; writes the job, tx:<key>, gov, touch, retries, suspects, the
--          lines, dead, hungry
-- Returns  for each key "SEND" it goes again under its key, "LOOK" it is looked up first, "UNKNOWN" it
--          has ended, "LEASE" it was out, the sweep takes it; "MARKED" it was so marked before,
--          "ENDED" it had ended, or there is none
-- Cost     O(keys × length of their lines), about 12 commands for each
local job, at, dry = ARGV[2], tonumber(ARGV[3]), ARGV[4] == "1"
must_be("hash", job_key(job))
must_be("hash", GOV)
must_be("hash", FLOWS)
must_be("stream", base .. "dead")
may_line("")
local since = redis.call("HGET", job_key(job), "since")
if not dry and at < tonumber(since or at + 1) then redis.call("HSET", job_key(job), "since", at) end

-- Out of the place where it waits, or is out; returns when it is due.
local function leave(key, state, id, flow)
  redis.call("ZREM", TOUCH, key)
  redis.call("ZREM", RETRIES, key)
  if state == "r" then count_bells(flow.limits, -1) end
  local suspect, due = redis.call("ZSCORE", SUSPECTS, key), redis.call("ZSCORE", line_key(id) .. ":due", key)
  redis.call("ZREM", SUSPECTS, key)
  if redis.call("ZREM", line_key(id) .. ":due", key) + redis.call("LREM", line_key(id), 1, key) > 0 then
    redis.call("HINCRBY", GOV, "q:" .. flow.lane, -1)
  end
  return suspect or due or now
end

local function mark(key)
  local tx = redis.call("HMGET", tx_key(key), "s", "k", "fl", "g", "t1", "cr", "m", "r", "b")
  local state = tx[1]
  if not state or #state > 1 then return "ENDED" end -- a final state is a word, an open one a letter
  if tx[9] == ARGV[3] then return "MARKED" end
  local flows, memo, lost = maybe_sent(tx[4], tx[3], tx[2], tx[7] or "")
  local word = state == "s" and "LEASE" or lost and "UNKNOWN" or looks(memo) and "LOOK" or "SEND"
  if dry then return word end
  local marks = {"b", ARGV[3], "t1", math.min(tonumber(tx[5] or at), at)}
  if word == "LEASE" then
    redis.call("HSET", tx_key(key), unpack(marks))
    return word
  end
  local id, next_id = flow_of(tx[3], tx[2]), flow_of(flows, tx[2])
  local flow = read_flow(id)
  must_be("zset", line_key(id) .. ":due")
  must_be("list", line_key(id))
  must_be("zset", line_key(next_id) .. ":due")
  local ends = lost and ending(key, job, "unknown", tonumber(tx[8] or 1), tx[6])
  local due = (lost or state ~= "w" or id ~= next_id) and leave(key, state, id, flow)
  for _, it in ipairs({"u", 1, "m", memo, "fl", flows}) do marks[#marks + 1] = it end
  if ends then
    marks[#marks + 1], marks[#marks + 2] = "e", lost
    finish(key, ends, lost, marks)
  else
    redis.call("HSET", tx_key(key), unpack(marks))
    if due then to_line(key, next_id, read_flow(next_id).lane, due, tx[6]) end
  end
  return word
end

local words = {}
for i = 5, #ARGV do words[#words + 1] = mark(ARGV[i]) end
return words
