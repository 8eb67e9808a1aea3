#!lua
-- Opens the next page of a job: its transactions enter the ledger and stand in their lines. If the job
-- is older than a backup that was restored (lua/recover.lua), they may have been sent already.
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
-- Parts    ending, looking, restored, batch
-- Reads    job:<job>, tx:<key>; writes flows, tx:<key>, the lines, active, gov, job:<job>, hungry, dead
-- Returns  1 = opened, 0 = somebody else opened it
-- Cost     O(transactions), 1 to 2 commands for each
local job = ARGV[2]
local name = job_key(job)
must_be("hash", name)
must_be("hash", FLOWS)
must_be("hash", GOV)
must_be("set", ACTIVE)
must_be("set", HUNGRY)
must_be("zset", TOUCH)
must_be("stream", base .. "dead")
local it = redis.call("HMGET", name, "opened", "pages", "released", "finished_tx", "low", "since")
if it[1] ~= ARGV[3] then return 0 end
for i = 6, #ARGV, 6 do
  must_be("hash", tx_key(ARGV[i]))
  local flows = it[6] and maybe_sent(ARGV[i + 2], ARGV[i + 1], 1, "") or ARGV[i + 1]
  must_be("list", line_key(flow_of(flows, 1)))
end
local lanes = {}
for flow, definition in pairs(cjson.decode(ARGV[4])) do
  redis.call("HSETNX", FLOWS, flow, definition)
  lanes[flow] = read_flow(flow).lane
end

local released, ended, lines, lost = 0, 0, {}, {}
for i = 6, #ARGV, 6 do
  local key, flows, memo, why = ARGV[i], ARGV[i + 1], "", nil
  if it[6] then flows, memo, why = maybe_sent(ARGV[i + 2], flows, 1, memo) end
  local fields = {"s", "w", "k", 1, "n", ARGV[i + 3], "fl", flows, "g", ARGV[i + 2],
    "j", job, "p", ARGV[3] .. ":" .. ARGV[i + 4]}
  for _, mark in ipairs(it[6] and {"b", it[6], "t1", it[6], "u", 1, "m", memo} or {}) do fields[#fields + 1] = mark end
  if ARGV[i + 5] ~= "1" then fields[#fields + 1], fields[#fields + 2] = "r", ARGV[i + 5] end
  redis.call("HSET", tx_key(key), unpack(fields))
  local flow = flow_of(flows, 1)
  local its = why and lost or lines[flow] or {}
  its[#its + 1] = key
  if not why then lines[flow] = its end
  released = released + 1
end
for flow, keys in pairs(lines) do
  redis.call("RPUSH", line_key(flow), unpack(keys))
  redis.call("SADD", ACTIVE, flow)
  redis.call("HINCRBY", GOV, "q:" .. lanes[flow], #keys)
end
for _, it in ipairs(cjson.decode(ARGV[5])) do
  local key, row = holder_of(it[1], it[2]), it[2]
  local state, rows = unpack(redis.call("HMGET", tx_key(key), "s", "r"))
  redis.call("HSET", tx_key(key), "r", tonumber(rows or 1) + 1)
  redis.call("HINCRBY", tx_key(key), "r:" .. row, 1)
  if state and #state > 1 then -- a final state is a word, an open one a letter
    redis.call("HINCRBY", name, state, 1)
    ended = redis.call("HINCRBY", name, "ended", 1)
  end
end
if ended == tonumber(redis.call("HGET", name, "rows")) then
  redis.call("HSET", name, "finished_us", now)
end
redis.call("HINCRBY", name, "released", released)
local opened = tonumber(it[1]) + 1
local waiting = tonumber(it[3] or 0) + released - tonumber(it[4] or 0)
if opened == tonumber(it[2]) or waiting >= tonumber(it[5] or 0) then
  redis.call("SREM", HUNGRY, job)
end
redis.call("HSET", name, "opened", opened)
redis.call("HDEL", GOV, "o:" .. job)
for _, key in ipairs(lost) do
  local ends = ending(key, job, "unknown", tonumber(redis.call("HGET", tx_key(key), "r") or 1))
  finish(key, ends, UNGUARDED, {"e", UNGUARDED})
end
return 1
