#!lua
-- Replaces the definitions of all flows, with changes of the limits that were set live or without,
-- and takes the buckets and the bells that are out along.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us   "" or an integer (tests)
-- ARGV[2]  version  of the overrides from which the definitions were made
-- ARGV[3]  known    number of flows that there were
-- ARGV[4]  changes  JSON: a list of {field of overrides, its value or "" = none any more, entry of the
--                   audit: a list, or an empty one}
-- ARGV[5…] flow, definition: two a flow, all that were known and could be read
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, breaker
-- Reads    deadlines, tx:<key>; writes overrides, audit, flows, gov, breaker:<scope>
-- Returns  1 = done, 0 = overrides or flows are others by now: nothing was written
-- Cost     O(flows + transactions out)
local OVERRIDES, AUDIT, changes = base .. "overrides", base .. "audit", cjson.decode(ARGV[4])
for _, name in ipairs({OVERRIDES, FLOWS, GOV}) do must_be("hash", name) end
must_be("zset", DEADLINES)
must_be("stream", AUDIT)
local version, known = redis.call("HGET", OVERRIDES, "#") or "0", redis.call("HLEN", FLOWS)
if version ~= ARGV[2] or known ~= tonumber(ARGV[3]) then return 0 end

-- Each bucket before and after, and each scope that becomes another one. A bucket that comes to a flow did
-- not count what that one sent so far, and none of calls at once knows a rate.
-- `capped` is the tenants with limits of their own, though their flows are named like the others.
local was, will, came, scopes, seen, given, capped = {}, {}, {}, {}, {}, {}, ""
for i = 5, #ARGV, 2 do
  local stored = redis.call("HGET", FLOWS, ARGV[i]) or ""
  local both = string.match(stored, "^[^\n]*") .. string.match(ARGV[i + 1], "^[^\n]*")
  given[ARGV[i]] = true
  if not seen[both] then
    seen[both] = true
    local new, had = decode(ARGV[i + 1]), {}
    local old = decode_or_none(stored, new.scope)
    for _, bucket in ipairs(old.limits) do was[bucket[NAME]], had[bucket[NAME]] = bucket, true end
    for _, bucket in ipairs(new.limits) do
      local name = bucket[NAME]
      will[name], came[name] = bucket, came[name] or not had[name]
      local owner = "/" .. (string.match(name, "^([^:]*)/") or "") .. "/"
      if #owner > 2 and not string.find(capped, owner, 1, true) then capped = capped .. owner end
    end
    if old.scope ~= new.scope then scopes[#scopes + 1] = {before = old.scope, after = new.scope} end
  end
end
local rung = {} -- the flows of bells that are out; what cannot be read the sweep sets aside
for _, key in ipairs(redis.call("ZRANGE", DEADLINES, 0, -1)) do
  local flow_name = find_flow_of_bell(key)
  if given[flow_name or ""] then rung[#rung + 1] = flow_name end
end

local function full_of(name) return tonumber(redis.call("HGET", GOV, "c:" .. name)) or 0 end
local function hold_of(name)
  local bucket = was[name]
  return bucket and math.max(full_of(name) - now - bucket[INTERVAL] * bucket[BURST], 0) or 0
end

-- When a bucket is full again that keeps its tokens, never more of them, and its pause. Where the burst
-- gets smaller and the rate higher, what was taken of the larger burst is owed: a window that sees
-- both would hold too much. In a hold that is paid as well; calls that are charged ahead are none.
local AHEAD = 100000
local function moved(name, new)
  local old, hold, interval, burst = was[name], hold_of(name), new[INTERVAL], new[BURST]
  local left = old[BURST] - (math.max(full_of(name) - now, 0) - hold) / old[INTERVAL]
  local owed = interval < old[INTERVAL] and math.max(old[BURST] - burst, 0) or 0
  if hold > AHEAD then return math.ceil(now + math.max(hold, owed * interval) + burst * interval) end
  return math.ceil(now + hold + (burst - math.min(left - owed, burst)) * interval)
end

local fulls, whys = {}, {}
for name, new in pairs(will) do
  local old, full, interval, burst = was[name], full_of(name), new[INTERVAL], new[BURST]
  if full > 0 and interval > 0 then
    local had_rate = old and old[INTERVAL] > 0
    if had_rate and (old[INTERVAL] ~= interval or old[BURST] ~= burst) then full = moved(name, new) end
    local anew = (came[name] or old and not had_rate) and not is_route(new)
    fulls[name] = anew and math.max(full, now + interval * burst) or full
  end
end
for _, scope in ipairs(scopes) do -- a refusal that is not over holds on, whatever is asked now
  local hold, bucket = hold_of(scope.before), will[scope.after]
  if hold > AHEAD and scope.before ~= "client" and not is_places(bucket) then
    local full = fulls[scope.after] or full_of(scope.after)
    fulls[scope.after] = math.max(full, now + hold + bucket[INTERVAL] * bucket[BURST])
    whys[scope.after] = redis.call("HGET", GOV, "y:" .. scope.before)
  end
end

for name, full in pairs(fulls) do redis.call("HSET", GOV, "c:" .. name, full) end
for name, why in pairs(whys) do redis.call("HSET", GOV, "y:" .. name, why or "") end
rename_breakers(scopes)
redis.call("HSET", GOV, "capped", capped)
for i = 5, #ARGV, 2 do redis.call("HSET", FLOWS, ARGV[i], ARGV[i + 1]) end
for _, field in ipairs(redis.call("HKEYS", GOV)) do
  if string.find(field, "^[bs]:") then redis.call("HDEL", GOV, field) end
end
for _, flow_name in ipairs(rung) do count_bells(read_flow(flow_name).limits, 1) end

for _, change in ipairs(changes) do
  local field, value, entry = unpack(change)
  if entry[1] then redis.call("XADD", AUDIT, unpack(entry)) end
  if value == "" then redis.call("HDEL", OVERRIDES, field)
  else redis.call("HSET", OVERRIDES, field, value) end
end
if changes[1] then add_to(OVERRIDES, "#", 1) end
need_ring(now)
return 1
