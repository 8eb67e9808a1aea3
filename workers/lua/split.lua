#!lua flags=allow-oom
-- Splits a batch that was refused: two transactions, each with half of its rows and a key of its own,
-- wait in its place.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  key     idempotency key of the batch
-- ARGV[3]  step    1-based; it is the only one
-- ARGV[4]  second  the row with which its second half begins, from 0
-- ARGV[5…] key, place, rows: of the first half, then of the second
-- Includes bucket, backlog, lookups
-- Reads    tx:<key>, flows; writes tx:<each half>, gov, deadlines, retries, the backlog, the job,
--          needs_page, tx:<key>
-- Returns  "SPLIT" the halves wait
--          "DROP"  not yours: it did not wait for this
-- Cost     O(limits + rows of the batch that are repeated), about 20 commands
local key, second = ARGV[2], tonumber(ARGV[4])
local name = tx_key(key)
local state, step, flows, guards, job, memo, backup, first_sent, maybe_executed = unpack(redis.call("HMGET",
  name, "s", "k", "fl", "g", "j", "m", "b", "t1", "u"))
local waits = (state == "r" or state == "t") and step == ARGV[3]
if not waits or next_call(memo) ~= "split" then return "DROP" end
local flow_name = flow_of(flows, step)
local flow = read_flow(flow_name)
must_be("hash", GOV)
must_be("set", NEEDS_PAGE)
local released, finished, low = unpack(redis.call("HMGET", job_key(job), "released", "finished_tx", "low"))
may_requeue(flow_name)
local halves = {}
for i = 5, #ARGV, 3 do
  must_be("hash", tx_key(ARGV[i]))
  halves[#halves + 1] = {key = ARGV[i], place = ARGV[i + 1], rows = tonumber(ARGV[i + 2]), repeated = {}}
end
local all = redis.call("HGETALL", name)
for i = 1, #all, 2 do
  local row = string.match(all[i], "^r:(%d+)$")
  if row then
    local half = halves[tonumber(row) < second and 1 or 2]
    half.rows = half.rows + all[i + 1]
    half.repeated[all[i]] = all[i + 1]
  end
end

if state == "r" then count_bells(flow.limits, -1) end
redis.call("ZREM", DEADLINES, key)
redis.call("ZREM", RETRIES, key)
if redis.call("HGET", GOV, "quarantined") == key then redis.call("HDEL", GOV, "quarantined") end
redis.call("HINCRBY", job_key(job), "released", 2)
redis.call("HINCRBY", job_key(job), "finished_tx", 1)
local waiting = released - (finished or 0)
if waiting + 1 >= tonumber(low or 0) then redis.call("SREM", NEEDS_PAGE, job) end
for _, half in ipairs(halves) do
  local fields, also = writer({"k", 1, "n", 1, "fl", flows, "g", guards, "j", job, "p", half.place,
    "r", half.rows})
  for field, times in pairs(half.repeated) do also(field, times) end
  also("u", maybe_executed) -- what may have been executed, or sent after a backup: its halves too
  also("b", backup)
  also("t1", backup and first_sent)
  redis.call("HSET", tx_key(half.key), unpack(fields))
  requeue(half.key, flow_name, flow.lane, now)
end
redis.call("HSET", name, "h", second .. " " .. halves[1].key .. " " .. halves[2].key, "m", "", "s", "split")
return "SPLIT"
