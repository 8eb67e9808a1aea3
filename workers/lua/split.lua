#!lua flags=allow-oom
-- Splits a batch that was refused: two transactions, each with half of its rows and a key of its own,
-- stand in the line in its place.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  key     idempotency key of the batch
-- ARGV[3]  step    1-based; it is the only one
-- ARGV[4]  second  the row with which its second half begins, from 0
-- ARGV[5…] key, place, rows: of the first half, then of the second
-- Parts    cell, line
-- Reads    tx:<key>, flows; writes tx:<each half>, gov, touch, retries, the line, the job, hungry,
--          tx:<key>
-- Returns  "SPLIT" the halves wait
--          "DROP"  not yours: it did not wait for this
-- Cost     O(limits + rows of the batch that are repeated), about 20 commands
local key, second = ARGV[2], tonumber(ARGV[4])
local name = tx_key(key)
local tx = redis.call("HMGET", name, "s", "k", "fl", "g", "j", "m", "b", "t1", "u")
local state, job = tx[1], tx[5]
if state ~= "r" and state ~= "t" or tx[2] ~= ARGV[3] or tx[6] ~= "s" then return "DROP" end
local id = flow_of(tx[3], tx[2])
local flow = read_flow(id)
must_be("hash", GOV)
must_be("set", HUNGRY)
local counted = redis.call("HMGET", job_key(job), "released", "finished_tx", "low")
may_line(id)
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
redis.call("ZREM", TOUCH, key)
redis.call("ZREM", RETRIES, key)
if redis.call("HGET", GOV, "suspect") == key then redis.call("HDEL", GOV, "suspect") end
redis.call("HINCRBY", job_key(job), "released", 2)
redis.call("HINCRBY", job_key(job), "finished_tx", 1)
if counted[1] - (counted[2] or 0) + 1 >= tonumber(counted[3] or 0) then redis.call("SREM", HUNGRY, job) end
for _, half in ipairs(halves) do
  local fields = {"k", 1, "n", 1, "fl", tx[3], "g", tx[4], "j", job, "p", half.place, "r", half.rows}
  local function also(field, value)
    if value then fields[#fields + 1], fields[#fields + 2] = field, value end
  end
  for field, times in pairs(half.repeated) do also(field, times) end
  also("u", tx[9]) -- what may have been executed, or sent after a backup: its halves too
  also("b", tx[7])
  also("t1", tx[7] and tx[8])
  redis.call("HSET", tx_key(half.key), unpack(fields))
  to_line(half.key, id, flow.lane, now)
end
redis.call("HSET", name, "h", second .. " " .. halves[1].key .. " " .. halves[2].key, "m", "", "s", "split")
return "SPLIT"
