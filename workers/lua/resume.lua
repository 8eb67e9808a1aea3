#!lua flags=allow-oom
-- Ends an operator's pause, and breakers that are open. On demand it ends the provider's holds as well: of
-- the client, of a limit or route, and the waits of single rows that it ordered. What waited is paced: its
-- buckets start empty.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  all     1 = the provider's holds too, 0 = these stay
-- ARGV[3…] the entry of the audit
-- Includes wake (need_ring: when somebody is to ring)
-- Includes seconds, counter, bucket, breaker, throttling
-- Reads    gov, flows, breaker:<scope>, tx:<key>; writes audit, gov, breaker:<scope>, backlog:<flow>:due,
--          quarantine
-- Returns  {rows, scope, …}: how many rows waited so, and all scopes that were held and are no more:
--          "client", limits, routes; {0} = there was nothing to end, and nothing was written
-- Cost     O(flows), and of rows that wait where all is ended

local all = ARGV[2] == "1"
must_be("stream", base .. "audit")
local held, paused = unpack(redis.call("HMGET", GOV, "c:client", "paused"))
local paused_until, ordered = string.match(paused or "", "^(%d+) (%d+)$")
local is_paused = (read_number(paused_until) or 0) > now
-- Until then the client is held all the same.
local held_until = all and 0 or read_number(is_paused and ordered or held) or 0
local open, scopes, is_named = {}, {}, {}
local function name_scope(scope)
  if not is_named[scope] then scopes[#scopes + 1], is_named[scope] = scope, true end
end
if is_paused or (read_number(held) or 0) > math.max(now, held_until) then name_scope("client") end

-- Whether the provider ordered to wait while the breaker of this scope is open.
local function waits_by_order(scope)
  local ordered_us = redis.pcall("HGET", breaker_key(scope), "ordered_us")
  return type(ordered_us) == "string" and (read_number(ordered_us) or 0) > now
end
for _, field in ipairs(redis.call("HKEYS", GOV)) do
  local scope = string.match(field, "^k:(.*)$")
  if scope and (all or not waits_by_order(scope)) then
    open[#open + 1] = scope
    name_scope(scope)
  end
end

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
  local full = read_number(redis.call("HGET", GOV, "c:" .. name)) or 0
  return full - bucket[INTERVAL] * bucket[BURST] > now + AHEAD
end
if all then
  for name, bucket in pairs(buckets) do
    if not is_places(bucket) and is_held(name, bucket) then name_scope(name) end
  end
  local waits = {QUARANTINE}
  for _, flow in ipairs(redis.call("HKEYS", FLOWS)) do waits[#waits + 1] = backlog_key(flow) .. ":due" end
  for _, due in ipairs(waits) do
    local waiting = redis.call("ZRANGEBYSCORE", due, string.format("(%.0f", now), "+inf", "WITHSCORES")
    for i = 1, #waiting, 2 do
      local ordered_us = redis.pcall("HGET", tx_key(waiting[i]), TX.ordered_us)
      if ordered_us == waiting[i + 1] then rows[#rows + 1] = {due = due, key = waiting[i]} end
    end
  end
end
if #scopes == 0 and #rows == 0 then return {0} end

redis.call("XADD", base .. "audit", unpack(ARGV, 3))
for name, bucket in pairs(buckets) do
  local is_free = all or not is_held(name, bucket)
  if bucket[INTERVAL] > 0 and is_free and (is_named[name] or not is_route(bucket)) then
    redis.call("HSET", GOV, "c:" .. name, now + bucket[INTERVAL] * bucket[BURST])
  end
end
for _, row in ipairs(rows) do redis.call("ZADD", row.due, now, row.key) end
for _, scope in ipairs(open) do end_breaker(scope) end
for _, scope in ipairs(scopes) do redis.call("HDEL", GOV, "y:" .. scope) end
forget_refusals()
need_ring(now)
if is_named.client then
  redis.call("HDEL", GOV, "paused")
  redis.call("HSET", GOV, "c:client", math.max(now, held_until))
  if held_until > now then redis.call("HSET", GOV, "y:client", "the provider asked to wait") end
end
return {#rows, unpack(scopes)}
