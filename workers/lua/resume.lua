#!lua flags=allow-oom
-- Ends all that holds a client or a part of it: an operator's pause, the provider's of the client, of a limit
-- or of a route, breakers that are open, and waits of single rows that are longer than any backoff. What
-- waited is paced: every bucket starts empty.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2…] the entry of the audit
-- Includes seconds, counter, bucket, breaker, throttling
-- Reads    gov, flows; writes audit, gov, breaker:<scope>, backlog:<flow>:due
-- Returns  {rows, scope, …}: how many rows waited so long, and all scopes that were held: "client", limits,
--          routes; {0} = nothing was held, and nothing was written
-- Cost     O(flows + rows)

-- A row whose wait has longer left, in us, waits by an order of the provider.
local LONGEST_BACKOFF = 60000000
must_be("stream", base .. "audit")
local held, paused = unpack(redis.call("HMGET", GOV, "c:client", "paused"))
local open, scopes, is_named = {}, {}, {}
local function name_scope(scope)
  if not is_named[scope] then scopes[#scopes + 1], is_named[scope] = scope, true end
end
if (tonumber(held) or 0) > now then name_scope("client") end
for _, field in ipairs(redis.call("HKEYS", GOV)) do open[#open + 1] = string.match(field, "^k:(.*)$") end
for _, scope in ipairs(open) do name_scope(scope) end

local buckets, rows, seen = {}, {}, {}
for _, definition in ipairs(redis.call("HVALS", FLOWS)) do
  local first_line = string.match(definition, "^[^\n]*")
  if not seen[first_line] then
    seen[first_line] = true
    local is_whole, flow = pcall(decode, definition)
    for _, bucket in ipairs(is_whole and flow.limits or {}) do buckets[bucket[NAME]] = bucket end
  end
end
-- A grant may be so many us ahead, and that is no hold.
local AHEAD = 150000
local function is_held(name, bucket)
  local full = tonumber(redis.call("HGET", GOV, "c:" .. name)) or 0
  return full - bucket[INTERVAL] * bucket[BURST] > now + AHEAD
end
for name, bucket in pairs(buckets) do
  if not is_places(bucket) and is_held(name, bucket) then name_scope(name) end
end
local all_flows = redis.call("HGETALL", FLOWS)
for i = 1, #all_flows, 2 do
  local due = backlog_key(all_flows[i]) .. ":due"
  local is_whole, flow = pcall(decode, all_flows[i + 1])
  if not is_whole or is_governed(flow.limits) then -- local steps wait for no provider
    for _, key in ipairs(redis.call("ZRANGEBYSCORE", due, now + LONGEST_BACKOFF, "+inf")) do
      rows[#rows + 1] = {due = due, key = key}
    end
  end
end
if #scopes == 0 and #rows == 0 then return {0} end

redis.call("XADD", base .. "audit", unpack(ARGV, 2))
for name, bucket in pairs(buckets) do
  if bucket[INTERVAL] > 0 and (is_named[name] or not is_route(bucket)) then
    redis.call("HSET", GOV, "c:" .. name, now + bucket[INTERVAL] * bucket[BURST])
  end
end
for _, row in ipairs(rows) do redis.call("ZADD", row.due, now, row.key) end
for _, scope in ipairs(open) do end_breaker(scope) end
for _, scope in ipairs(scopes) do redis.call("HDEL", GOV, "y:" .. scope) end
forget_refusals()
redis.call("HDEL", GOV, "paused", "y:client")
redis.call("HSET", GOV, "c:client", now)
return {#rows, unpack(scopes)}
