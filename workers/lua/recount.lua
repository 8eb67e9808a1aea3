#!lua flags=no-writes
-- Counts the bells that are out and what waits in each lane, and holds it against the counters. Each
-- script moves both together, so one look in one instant finds them equal on a busy store too.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Reads    gov, flows, the lines, touch, guests, tx:<key>
-- Returns  {field, counter, counted, …} for b:* (bells out), l:* (places taken) and q:* (waiting in a
--          lane) that differ
-- Cost     O(flows + all that is out)
local counted = {}
local function count(field, by) counted[field] = (counted[field] or 0) + by end
for _, id in ipairs(redis.call("HKEYS", FLOWS)) do
  local line = line_key(id)
  count("q:" .. read_flow(id).lane, redis.call("LLEN", line) + redis.call("ZCARD", line .. ":due"))
end
for _, key in ipairs(redis.call("ZRANGE", TOUCH, 0, -1)) do
  local tx = redis.call("HMGET", tx_key(key), "s", "k", "fl", "cc")
  for name in string.gmatch(tx[4] or "", "[^+]+") do count("l:" .. name, 1) end
  if tx[1] == "r" then
    for _, cell in ipairs(read_flow(flow_of(tx[3], tx[2])).limits) do count("b:" .. cell[1], 1) end
  end
end
for _, guest in ipairs(redis.call("ZRANGE", GUESTS, 0, -1)) do
  for name in string.gmatch(redis.call("HGET", tx_key(guest), "cc") or "", "[^+]+") do count("l:" .. name, 1) end
end
local gov, reply = redis.call("HGETALL", GOV), {}
local function differ(field, counter, there)
  if tonumber(counter) ~= there then
    for _, it in ipairs({field, counter, there}) do reply[#reply + 1] = it end
  end
end
for i = 1, #gov, 2 do
  local field = gov[i]
  if string.find(field, "^[blq]:") then
    differ(field, gov[i + 1], counted[field] or 0)
    counted[field] = nil
  end
end
for field, there in pairs(counted) do differ(field, 0, there) end
return reply
