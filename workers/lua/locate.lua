#!lua flags=no-writes
-- Finds where transactions stand, all in one instant: piece by piece, one that moves meanwhile would be
-- in no place, or in two.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2…] key     idempotency keys
-- Reads    tx:<key>, active, the backlogs, quarantine, deadlines
-- Returns  for each key {state, place, …}: its places among backlog, due, quarantine and deadlines
-- Cost     O(keys × length of their backlogs)
local reply = {}
for i = 2, #ARGV do
  local key = ARGV[i]
  local tx = read_tx(key, "state step flows")
  local flow, places = flow_of(tx.flows or "", tx.step) or "", {tx.state or ""}
  local function add(place, is_there) if is_there then places[#places + 1] = place end end
  -- What waits in a backlog that ring does not visit waits for ever.
  if redis.call("SISMEMBER", ACTIVE, flow) == 1 then
    for _ in ipairs(redis.call("LPOS", backlog_key(flow), key, "COUNT", 0)) do add("backlog", true) end
    add("due", redis.call("ZSCORE", backlog_key(flow) .. ":due", key))
  end
  add("quarantine", redis.call("ZSCORE", QUARANTINE, key))
  add("deadlines", redis.call("ZSCORE", DEADLINES, key))
  reply[#reply + 1] = places
end
return reply
