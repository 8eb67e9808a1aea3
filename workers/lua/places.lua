#!lua flags=no-writes
-- Tells where transactions stand, all in one instant: a look in pieces would find one that moves
-- meanwhile in no place, or in two.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2…] key     idempotency keys
-- Reads    tx:<key>, active, the lines, suspects, touch
-- Returns  for each key {state, place, …}: its places among line, due, suspects and touch
-- Cost     O(keys × length of their lines)
local reply = {}
for at = 2, #ARGV do
  local key = ARGV[at]
  local tx = redis.call("HMGET", tx_key(key), "s", "k", "fl")
  local flow, found = flow_of(tx[3] or "", tx[2]) or "", {tx[1] or ""}
  local function stands(place, there) if there then found[#found + 1] = place end end
  -- What waits in a line that ring does not look at waits for ever.
  if redis.call("SISMEMBER", ACTIVE, flow) == 1 then
    for _ in ipairs(redis.call("LPOS", line_key(flow), key, "COUNT", 0)) do stands("line", true) end
    stands("due", redis.call("ZSCORE", line_key(flow) .. ":due", key))
  end
  stands("suspects", redis.call("ZSCORE", SUSPECTS, key))
  stands("touch", redis.call("ZSCORE", TOUCH, key))
  reply[#reply + 1] = found
end
return reply
