#!lua flags=no-writes
-- Counts the bells that are out and what waits in each lane, and compares that with the counters. Each
-- script moves both together, so in one instant they are equal on a busy store too.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, counts
-- Reads    gov, flows, the backlogs, deadlines, permits, tx:<key>
-- Returns  {field, counter, counted, …} for b:* (bells out), l:* (places taken) and q:* (waiting in a
--          lane) that differ
-- Cost     O(flows + all that is out)
local counted = count_all()
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
