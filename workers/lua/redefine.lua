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

-- Each cell before and after, and each scope that becomes another one. A cell that comes to a flow did
-- not count what that one sent so far, and none of calls at once knows a rate.
local was, will, came, scopes, seen = {}, {}, {}, {}, {}
local capped = "" -- tenants with limits of their own, though their flows are named like the others
for i = 5, #ARGV, 2 do
  local before = string.match(redis.call("HGET", FLOWS, ARGV[i]), "^[^\n]*")
  local after = string.match(ARGV[i + 1], "^[^\n]*")
  if not seen[before .. after] then
    seen[before .. after] = true
    local old, new, had = cjson.decode(before), cjson.decode(after), {}
    for _, cell in ipairs(old.limits) do was[cell[1]], had[cell[1]] = cell, true end
    for _, cell in ipairs(new.limits) do
      will[cell[1]] = cell
      came[cell[1]] = came[cell[1]] or not had[cell[1]]
      local owner = string.match(cell[1], "^([^:]*)/")
      if owner and not string.find(capped, "/" .. owner .. "/", 1, true) then capped = capped .. "/" .. owner .. "/" end
    end
    if old.scope ~= new.scope then scopes[#scopes + 1] = {old.scope, new.scope} end
  end
end
local rung = {} -- the flows of bells that are out
for _, key in ipairs(redis.call("ZRANGE", TOUCH, 0, -1)) do
  local tx = redis.call("HMGET", tx_key(key), "s", "fl", "k")
  if tx[1] == "r" then rung[#rung + 1] = flow_of(tx[2], tx[3]) end
end

local function full_of(name) return tonumber(redis.call("HGET", GOV, "c:" .. name) or 0) end
local function hold_of(name)
  local cell = was[name]
  return cell and math.max(full_of(name) - now - cell[2] * cell[3], 0) or 0
end

-- When a cell is full again that keeps its tokens, never more of them, and its pause. Where the burst
-- gets smaller and the rate higher, what was taken of the larger burst is owed: a window that sees
-- both would hold too much. In a hold that is paid as well; calls that are charged ahead are none.
local AHEAD = 100000
local function moved(name, new)
  local old, hold = was[name], hold_of(name)
  local tokens = old[3] - (math.max(full_of(name) - now, 0) - hold) / old[2]
  local owed = new[2] < old[2] and math.max(old[3] - new[3], 0) or 0
  if hold > AHEAD then return math.ceil(now + math.max(hold, owed * new[2]) + new[3] * new[2]) end
  return math.ceil(now + hold + (new[3] - math.min(tokens - owed, new[3])) * new[2])
end

local fulls, whys = {}, {}
for name, new in pairs(will) do
  local old, full = was[name], full_of(name)
  if full > 0 and new[2] > 0 then
    if old and old[2] > 0 and (old[2] ~= new[2] or old[3] ~= new[3]) then full = moved(name, new) end
    if (came[name] or old and old[2] == 0) and not is_route(new) then full = math.max(full, now + new[2] * new[3]) end
    fulls[name] = full
  end
end
for _, scope in ipairs(scopes) do -- a refusal that is not over holds on, whatever is asked now
  local hold, cell = hold_of(scope[1]), will[scope[2]]
  if hold > AHEAD and scope[1] ~= "client" and not is_slots(cell) then
    local full = math.max(fulls[scope[2]] or full_of(scope[2]), now + hold + cell[2] * cell[3])
    fulls[scope[2]], whys[scope[2]] = full, redis.call("HGET", GOV, "y:" .. scope[1])
  end
end

for name, full in pairs(fulls) do redis.call("HSET", GOV, "c:" .. name, full) end
for name, why in pairs(whys) do redis.call("HSET", GOV, "y:" .. name, why or "") end
redis.call("HSET", GOV, "capped", capped)
for i = 5, #ARGV, 2 do redis.call("HSET", FLOWS, ARGV[i], ARGV[i + 1]) end
for _, field in ipairs(redis.call("HKEYS", GOV)) do
  if string.sub(field, 1, 2) == "b:" then redis.call("HDEL", GOV, field) end
end
for _, id in ipairs(rung) do count_bells(read_flow(id).limits, 1) end

for _, change in ipairs(changes) do
  redis.call("XADD", AUDIT, unpack(change[3]))
  if change[2] == "" then redis.call("HDEL", OVERRIDES, change[1])
  else redis.call("HSET", OVERRIDES, change[1], change[2]) end
end
if changes[1] then redis.call("HINCRBY", OVERRIDES, "#", 1) end
return 1
