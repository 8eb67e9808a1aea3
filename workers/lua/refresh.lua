#!lua
-- Replaces the definitions of flows, and counts the bells that are out by the new ones.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2…] flow, definition: two a flow
-- Reads    touch, tx:<key>; writes flows, gov
-- Returns  number of bells out
-- Cost     O(flows + transactions out)
must_be("hash", FLOWS)
must_be("hash", GOV)
must_be("zset", TOUCH)
for i = 2, #ARGV, 2 do redis.call("HSET", FLOWS, ARGV[i], ARGV[i + 1]) end
for _, field in ipairs(redis.call("HKEYS", GOV)) do
  if string.sub(field, 1, 2) == "b:" then redis.call("HDEL", GOV, field) end
end
local bells = 0
for _, key in ipairs(redis.call("ZRANGE", TOUCH, 0, -1)) do
  local tx = redis.call("HMGET", tx_key(key), "s", "fl", "k")
  if tx[1] == "r" then
    bells = bells + 1
    count_bells(read_flow(flow_of(tx[2], tx[3])).limits, 1)
  end
end
return bells
