#!lua flags=allow-oom
-- Ends what holds a client: an operator's pause, the provider's, an open breaker. What waited is
-- paced: every bucket starts empty. A limit or route that is held for longer than the client was by
-- its provider is so for itself, and stays so.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2…] the entry of the audit
-- Parts    seconds, cell, breaker
-- Reads    gov, flows; writes audit, gov
-- Returns  1 = it goes on, 0 = nothing held it, and nothing was written
-- Cost     O(flows)
must_be("stream", base .. "audit")
local state = redis.call("HMGET", GOV, "c:client", "paused", "breaker")
local held = tonumber(state[1] or 0)
if held <= now and not state[3] then return 0 end
local paused_until, provider = string.match(state[2] or "", "(%d+) (%d+)")
if tonumber(paused_until or 0) == held then held = tonumber(provider) end

local cells, seen = {}, {}
for _, definition in ipairs(redis.call("HVALS", FLOWS)) do
  local hot = string.match(definition, "^[^\n]*")
  if not seen[hot] then
    seen[hot] = true
    for _, cell in ipairs(cjson.decode(hot).limits) do cells[cell[1]] = cell end
  end
end
redis.call("XADD", base .. "audit", unpack(ARGV, 2))
for name, cell in pairs(cells) do
  local full = tonumber(redis.call("HGET", GOV, "c:" .. name))
  local hold = full and full - cell[2] * cell[3] or 0
  local own = hold > math.max(now, held)
  if cell[2] > 0 and not own and (hold > now or not is_route(cell)) then
    redis.call("HSET", GOV, "c:" .. name, now + cell[2] * cell[3])
  end
end
forget()
redis.call("HDEL", GOV, "paused", "y:client")
redis.call("HSET", GOV, "c:client", now)
return 1
