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
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, lookups, pages, damage
-- Reads    tx:<key>, flows; writes tx:<each half>, gov, deadlines, retries, the backlog, the job,
--          needs_page, tx:<key>
-- Returns  "SPLIT" the halves wait
--          "DROP"  not yours: it did not wait for this
-- Cost     O(limits + rows of the batch that are repeated), about 20 commands
local key, second = ARGV[2], tonumber(ARGV[4])
local name = tx_key(key)
local tx = read_tx(key, "state step flows guards job memo backup_us first_sent_us maybe_executed")
local state = tx.state
local waits = (state == "r" or state == "t") and tx.step == ARGV[3]
if not waits or next_call(tx.memo) ~= "split" then return "DROP" end
local damage = find_damage(key)
if damage then error("the transaction " .. key .. " is damaged: " .. damage) end
local flow_name = flow_of(tx.flows, tx.step)
local flow = read_flow(flow_name)
must_be("hash", GOV)
must_be("set", NEEDS_PAGE)
local job = read_job(tx.job, PAGES)
check_requeue_types(flow_name)
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
leave_quarantine(key)
add_to(job_key(tx.job), JOB.released, 2)
add_to(job_key(tx.job), JOB.ended_transactions, 1)
local open = count_open(job.released, job.ended_transactions) + 1
leave_needs_page(tx.job, job, job.next_page, open)
for _, half in ipairs(halves) do
  local fields, write = writer({TX.step, 1, TX.steps, 1, TX.flows, tx.flows, TX.guards, tx.guards,
    TX.job, tx.job, TX.place, half.place, TX.rows, half.rows})
  for field, times in pairs(half.repeated) do write(field, times) end
  write(TX.maybe_executed, tx.maybe_executed) -- what may have been executed: its halves too
  write(TX.backup_us, tx.backup_us)
  write(TX.first_sent_us, tx.backup_us and tx.first_sent_us)
  redis.call("HSET", tx_key(half.key), unpack(fields))
  requeue(half.key, flow_name, flow.lane, now)
end
redis.call("HSET", name, TX.halves, second .. " " .. halves[1].key .. " " .. halves[2].key, TX.memo, "",
  TX.state, "split")
return "SPLIT"
