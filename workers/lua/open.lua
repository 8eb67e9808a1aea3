#!lua
-- Opens the next page of a job: its transactions enter the ledger and wait in their backlogs. If the job
-- is older than a backup that was restored (recover.lua), they may have been sent already.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job
-- ARGV[3]  page    0-based number of the page
-- ARGV[4]  flows   JSON: flow -> its definition, for flows that may be new
-- ARGV[5]  joined  JSON: for each further row of this page that joins an earlier transaction, its key and
--                  which of its rows is repeated, from 0
-- ARGV[6…] key, flows of its steps, guards of its steps, steps, index in the page, rows: six a
--          transaction
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, quarantine, pages (leave_needs_page), lookups, waiting, ending, damage, restored, batch
-- Reads    job:<job>, tx:<key>; writes flows, tx:<key>, the backlogs, active, gov, job:<job>, needs_page,
--          deadlines, dead
-- Returns  1 = opened, 0 = somebody else opened it
-- Cost     O(transactions), 1 to 2 commands for each
local job_name, page = ARGV[2], ARGV[3]
local name = job_key(job_name)
must_be("hash", name)
must_be("hash", FLOWS)
must_be("hash", GOV)
must_be("set", ACTIVE)
must_be("set", NEEDS_PAGE)
must_be("zset", DEADLINES)
must_be("stream", base .. "dead")
local job = read_job(job_name, "backup_us schema " .. PAGES)
local backup, schema = job.backup_us, job.schema
if job.next_page ~= page then return 0 end
if tonumber(schema) ~= SCHEMA then
  schema = schema or "none"
  error("job " .. job_name .. " is stored in schema " .. schema .. ", this release reads " .. SCHEMA)
end
local own, joined = {}, cjson.decode(ARGV[5])
for i = 6, #ARGV, 6 do own[ARGV[i]] = true end
for _, pair in ipairs(joined) do check_holder(holder_of(pair[1], pair[2]), own) end
for i = 6, #ARGV, 6 do
  clear_way("hash", "tx:" .. ARGV[i])
  local flows = backup and maybe_sent(ARGV[i + 2], ARGV[i + 1], 1, "") or ARGV[i + 1]
  clear_way("list", "backlog:" .. flow_of(flows, 1))
end
local lanes, opened, ended, backlogs, lost = {}, 0, 0, {}, {}
for flow, definition in pairs(cjson.decode(ARGV[4])) do
  local is_whole, read = pcall(decode, redis.call("HGET", FLOWS, flow))
  if not is_whole then read = decode(definition) end
  lanes[flow] = read.lane
  if not is_whole then redis.call("HSET", FLOWS, flow, definition) end
end

for i = 6, #ARGV, 6 do
  local key, flows, memo, why = ARGV[i], ARGV[i + 1], "", nil
  if backup then flows, memo, why = maybe_sent(ARGV[i + 2], flows, 1, memo) end
  local fields, write = writer({TX.state, "w", TX.step, 1, TX.steps, ARGV[i + 3], TX.flows, flows,
    TX.guards, ARGV[i + 2], TX.job, job_name, TX.place, page .. ":" .. ARGV[i + 4]})
  write(TX.backup_us, backup)
  write(TX.first_sent_us, backup)
  write(TX.maybe_executed, backup and 1)
  write(TX.memo, backup and memo)
  write(TX.rows, ARGV[i + 5] ~= "1" and ARGV[i + 5])
  redis.call("HSET", tx_key(key), unpack(fields))
  local flow = flow_of(flows, 1)
  local keys = why and lost or backlogs[flow] or {}
  keys[#keys + 1] = key
  if not why then backlogs[flow] = keys end
  opened = opened + 1
end
for flow, keys in pairs(backlogs) do
  redis.call("RPUSH", backlog_key(flow), unpack(keys))
  redis.call("SADD", ACTIVE, flow)
  add_to(GOV, "q:" .. lanes[flow], #keys)
end
if opened > 0 then need_ring(now) end
for _, pair in ipairs(joined) do
  local first, row = unpack(pair)
  local key = holder_of(first, row)
  local tx = read_tx(key, "state rows")
  redis.call("HSET", tx_key(key), TX.rows, tonumber(tx.rows or 1) + 1)
  add_to(tx_key(key), TX.repeats .. row, 1)
  if tx.state and #tx.state > 1 then -- a final state is a word, an open one a letter
    add_to(name, JOB[tx.state], 1)
    ended = add_to(name, JOB.ended, 1)
  end
end
if ended == tonumber(redis.call("HGET", name, JOB.rows)) then
  redis.call("HSET", name, JOB.finished_us, now)
end
add_to(name, JOB.released, opened)
local next_page = tonumber(page) + 1
local open = count_open(job.released, job.ended_transactions) + opened
leave_needs_page(job_name, job, next_page, open)
redis.call("HSET", name, JOB.next_page, next_page)
redis.call("HDEL", GOV, "o:" .. job_name)
for _, key in ipairs(lost) do
  local rows = tonumber(redis.call("HGET", tx_key(key), TX.rows) or 1)
  finish(key, plan_ending(key, job_name, "unknown", rows), UNGUARDED, {TX.error, UNGUARDED})
end
return 1
