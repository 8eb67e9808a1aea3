#!lua
-- Replaces the definitions of all flows, with changes of the limits that were set live or without,
-- and takes the cells and the bells that are out along.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us   "" or an integer (tests)
-- ARGV[2]  version  of the overrides from which the definitions were made
-- ARGV[3]  known    number of flows that there were
-- ARGV[4]  changes  JSON: a list of {limit, what is set live of it or "" = nothing any more, entry of
--                   the audit: a list}
-- ARGV[5…] flow, definition: two a flow, all that were known
-- Parts    cell
-- Reads    touch, tx:<key>; writes overrides, audit, flows, gov
-- Returns  1 = done, 0 = overrides or flows are others by now: nothing was written
-- Cost     O(flows + transactions out)
local OVERRIDES, AUDIT = base .. "overrides", base .. "audit"
local changes = cjson.decode(ARGV[4])
must_be("hash", OVERRIDES)
must_be("hash", FLOWS)
must_be("hash", GOV)
must_be("zset", TOUCH)
must_be("stream", AUDIT)
if (redis.call("HGET", OVERRIDES, "#") or "0") ~= ARGV[2] then return 0 end
if redis.call("HLEN", FLOWS) ~= tonumber(ARGV[3]) then return 0 end

-- Each cell before and after. One that comes to a flow did not count what that one sent so far.
local was, will, came, seen = {}, {}, {}, {}
for i = 5, #ARGV, 2 do
  local ending = string.match(ARGV[i], "^%d:.-:(.*)$") -- of flows with the same limits
  if not seen[ending] then
    seen[ending] = true
    local had = {}
    for _, cell in ipairs(read_flow(ARGV[i]).limits) do was[cell[1]], had[cell[1]] = cell, true end
    for _, cell in ipairs(cjson.decode(string.match(ARGV[i + 1], "^[^\n]*")).limits) do
      will[cell[1]] = cell
      came[cell[1]] = came[cell[1]] or not had[cell[1]]
    end
  end
end

-- When a cell is full again that keeps its tokens, never more of them, and its pause. Where the burst
-- gets smaller and the rate higher, what was taken of the larger burst is owed: a window that sees
-- both would hold too much.
local function moved(full, old, new)
  local missing = math.max(full - now, 0)
  local hold = math.max(missing - old[2] * old[3], 0)
  local tokens = old[3] - (missing - hold) / old[2]
  local owed = new[2] < old[2] and math.max(old[3] - new[3], 0) or 0
  return math.ceil(now + hold + (new[3] - math.min(tokens - owed, new[3])) * new[2])
end

for name, new in pairs(will) do
  local old, full = was[name], tonumber(redis.call("HGET", GOV, "c:" .. name))
  if full and new[2] > 0 then
    if old and old[2] > 0 and (old[2] ~= new[2] or old[3] ~= new[3]) then full = moved(full, old, new) end
    if came[name] and not is_route(new) then full = math.max(full, now + new[2] * new[3]) end
    redis.call("HSET", GOV, "c:" .. name, full)
  end
end
for i = 5, #ARGV, 2 do redis.call("HSET", FLOWS, ARGV[i], ARGV[i + 1]) end

for _, field in ipairs(redis.call("HKEYS", GOV)) do
  if string.sub(field, 1, 2) == "b:" then redis.call("HDEL", GOV, field) end
end
for _, key in ipairs(redis.call("ZRANGE", TOUCH, 0, -1)) do
  local tx = redis.call("HMGET", tx_key(key), "s", "fl", "k")
  if tx[1] == "r" then count_bells(read_flow(flow_of(tx[2], tx[3])).limits, 1) end
end

for _, change in ipairs(changes) do
  redis.call("XADD", AUDIT, unpack(change[3]))
  if change[2] == "" then redis.call("HDEL", OVERRIDES, change[1])
  else redis.call("HSET", OVERRIDES, change[1], change[2]) end
end
if changes[1] then redis.call("HINCRBY", OVERRIDES, "#", 1) end
return 1
