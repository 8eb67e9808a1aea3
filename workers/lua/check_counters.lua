#!lua flags=no-writes
-- Counts the bells that are out and what waits in each lane, and compares that with the counters. Each
-- script moves both together, so in one instant they are equal on a busy store too.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Includes bucket
-- Reads    gov, flows, the backlogs, deadlines, permits, tx:<key>
-- Returns  {field, counter, counted, …} for b:* (bells out), l:* (places taken) and q:* (waiting in a
--          lane) that differ
-- Cost     O(flows + all that is out)
local counted = {}
local function count(field, more) counted[field] = (counted[field] or 0) + more end
local function count_places(places)
  for name in string.gmatch(places or "", "[^+]+") do count("l:" .. name, 1) end
end
for _, flow_name in ipairs(redis.call("HKEYS", FLOWS)) do
  local backlog = backlog_key(flow_name)
  local waiting = redis.call("LLEN", backlog) + redis.call("ZCARD", backlog .. ":due")
  count("q:" .. read_flow(flow_name).lane, waiting)
end
for _, key in ipairs(redis.call("ZRANGE", DEADLINES, 0, -1)) do
  local tx = read_tx(key, "state step flows places")
  count_places(tx.places)
  if tx.state == "r" then
    local flow = read_flow(flow_of(tx.flows, tx.step))
    for _, bucket in ipairs(flow.limits) do count("b:" .. bucket[NAME], 1) end
  end
end
for _, permit in ipairs(redis.call("ZRANGE", PERMITS, 0, -1)) do
  count_places(redis.call("HGET", tx_key(permit), TX.places))
end
local gov, reply = redis.call("HGETALL", GOV), {}
local function compare(field, counter, actual)
  if tonumber(counter) ~= actual then
    for _, value in ipairs({field, counter, actual}) do reply[#reply + 1] = value end
  end
end
for i = 1, #gov, 2 do
  local field = gov[i]
  if string.find(field, "^[blq]:") then
    compare(field, gov[i + 1], counted[field] or 0)
    counted[field] = nil
  end
end
for field, actual in pairs(counted) do compare(field, 0, actual) end
return reply
