#!lua
-- Decides whether a call from outside of jobs, a guest, may leave now: all limits or none. Where it may
-- not, the next token of each of its limits is left to it for as long as it goes on asking.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  guest     a name never used before, by which it leaves again
-- ARGV[3]  flow      name of its flow
-- ARGV[4]  lease_us  how long its places are kept, and a probe waited for
-- ARGV[5]  keep_us   how long tokens are left to it: until it asks again
-- Parts    seconds, cell, charge
-- Reads    flows, gov; writes gov, guests, tx:<guest>
-- Returns  {"GO", start_in_us, spread_us}
--          {"WAIT", short_us}  until a token comes back, or a hold of a limit or route ends
--          {"HELD", left_us}   nothing leaves for this client until then
--          {"OPEN", left_us}   the same, by the breaker; 0 = a probe is out
--          {"FLOW", 0}         the flow is not defined
-- Cost     O(limits), 4 commands
local guest, lease = ARGV[2], tonumber(ARGV[4])
local definition = redis.call("HGET", FLOWS, ARGV[3])
if not definition then return {"FLOW", 0} end
local flow = decode(definition)
local limits, fields = flow.limits, {unpack(flow.fields)} -- a copy: it grows
local grants = #fields + 1
fields[grants], fields[grants + 1], fields[grants + 2], fields[grants + 3] =
  slot_of("n:"), "breaker", "beat", "asked"
local states = redis.call("HMGET", GOV, unpack(fields))
-- Where nobody rang or asked of late, buckets start empty, as in ring.
local seen = math.max(tonumber(states[grants + 2] or 0), tonumber(states[grants + 3] or 0))
for i, cell in ipairs(now - seen > 500000 and limits or {}) do
  if cell[2] > 0 and not is_route(cell) then
    states[2 * i - 1] = math.max(tonumber(states[2 * i - 1] or 0), now + cell[2] * cell[3])
  end
end
local held, probe = full_at(states[1] or now, limits[1]) - now, tonumber(states[grants + 1])
if probe and (held > 0 or probe > now) then return {"OPEN", held} end
if held > 0 then return {"HELD", held} end
must_be("zset", GUESTS)

local wait, spread, short, keep = 0, 1000000000, 0, {"asked", now}
local function leave_to_it(field, value) keep[#keep + 1], keep[#keep + 2] = field, value end
for i, cell in ipairs(limits) do
  local state, bells = states[2 * i - 1], tonumber(states[2 * i] or 0)
  if tokens(state, cell, now + cell[4], flow.lane) - bells < 1 then
    local full = cell[2] > 0 and full_at(state, cell) or now
    local reserve = flow.lane == 0 and 0 or cell[6]
    short = math.max(short, full - now + cell[2] * (1 + bells + reserve - cell[3]) - cell[4], 1000)
  elseif cell[2] > 0 then
    wait = math.max(wait, full_at(state, cell) + cell[2] - now - cell[2] * cell[3])
  end
  spread = math.min(spread, cell[5])
  leave_to_it("g:" .. cell[1], now + tonumber(ARGV[5]))
  if cell[2] > 0 and not is_route(cell) then leave_to_it(fields[2 * i - 1], full_at(state, cell)) end
end
if short > 0 then
  redis.call("HSET", GOV, unpack(keep))
  return {"WAIT", short}
end

local writes, slots = charges(limits, fields, states, wait)
local function write(field, value) writes[#writes + 1], writes[#writes + 2] = field, value end
write(fields[grants], one_more(states[grants]))
write("asked", now)
if probe then
  write("breaker", now + lease)
  write("prober", guest)
end
redis.call("ZADD", GUESTS, now + lease, guest)
redis.call("HSET", GOV, unpack(writes))
redis.call("HSET", tx_key(guest), "fl", ARGV[3], "cc", table.concat(slots, "+"), "pb", probe and 1 or 0, "s", "g")
return {"GO", wait, spread}
