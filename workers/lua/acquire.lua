#!lua
-- Decides whether a call from outside of jobs may leave now, and gives it a permit: all limits or none.
-- Where it may not, the next token of each of its limits is left to it for as long as it goes on asking.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  permit    a name never used before, by which it is released again
-- ARGV[3]  flow      name of its flow
-- ARGV[4]  lease_us  how long its places are kept, and a probe waited for
-- ARGV[5]  keep_us   how long tokens are left to it: until it asks again
-- Includes wake (need_ring: when somebody is to ring)
-- Includes seconds, counter, bucket, charge, breaker, probes, run, overdue
-- Reads    flows, gov, deadlines; writes gov, permits, tx:<permit>, of a probe breaker:<scope>
-- Returns  {"GO", start_in_us, spread_us, number of the permit, which release wants}
--          {"WAIT", short_us}  until a token comes back, or a hold of a limit or route ends
--          {"HELD", left_us}   nothing leaves for this client until then, in a quiet time too
--          {"OPEN", left_us}   a breaker is open, for this client or for the call's scope, and no probe may
--                              go before: it is not its turn yet, or the provider holds what it asks for
--          {"FLOW", 0}         the flow is not defined
--          {"SWEEP", 0}        what has expired may hold what it asks for: sweep.lua frees it
--          {"CLOCK", 0}        the store's clock was set back: clock_rollback.lua mends it
-- Cost     O(limits), 4 commands

-- The shortest wait that is answered, in us: an earlier question would only cost a round trip.
local LEAST_WAIT = 1000

local permit, lease = ARGV[2], tonumber(ARGV[4])
local definition = redis.call("HGET", FLOWS, ARGV[3])
if not definition then return {"FLOW", 0} end
local flow = decode(definition)
local limits, fields = flow.limits, {unpack(flow.fields)} -- a copy: it grows
local extra = #fields + 1
fields[extra], fields[extra + 1], fields[extra + 2], fields[extra + 3], fields[extra + 4] =
  slot_of("n:"), "at", "asked", "k:client", "k:" .. flow.scope
fields[extra + 5], fields[extra + 6] = "sent", "set_back"
local states = redis.call("HMGET", GOV, unpack(fields))
local newest = read_number(states[extra + 5]) or 0
if newest < 0 then return behind(newest) end
local asked = read_number(states[extra + 2]) or 0
if math.max(asked, read_number(states[extra + 1]) or 0) - now >= SET_BACK then return {"CLOCK", 0} end
local run = know_run(newest)
if run.quiet_until > now then return {"HELD", run.quiet_until - now} end
if is_overdue(PERMITS) then return {"SWEEP", 0} end
for i, bucket in ipairs(run.starts_empty and limits or {}) do
  if bucket[INTERVAL] > 0 and not is_route(bucket) then
    local empty = now + bucket[INTERVAL] * bucket[BURST]
    states[2 * i - 1] = math.max(read_number(states[2 * i - 1]) or 0, empty)
  end
end
local held = full_at(states[1] or now, limits[1]) - now
local probe, probe_from = open_scope(flow, states[extra + 3], states[extra + 4])
if probe then
  local left = math.max(probe_from - now, held)
  for i, bucket in ipairs(limits) do
    local span = bucket[INTERVAL] * bucket[BURST]
    if bucket[INTERVAL] > 0 then left = math.max(left, full_at(states[2 * i - 1], bucket) - now - span) end
  end
  if left > 0 then return {"OPEN", left} end
end
if held > 0 then return {"HELD", held} end
if probe then must_be("hash", breaker_key(probe)) end

local wait, spread, short, keep = 0, NO_SPREAD, 0, {"asked", now}
local function leave_to_permit(field, value) keep[#keep + 1], keep[#keep + 2] = field, value end
for i, bucket in ipairs(limits) do
  local state, bells = states[2 * i - 1], read_number(states[2 * i]) or 0
  local interval, full = bucket[INTERVAL], now
  if interval > 0 then full = full_at(state, bucket) end
  if tokens(state, bucket, now + bucket[LEAD], flow.lane) - bells < 1 then
    local reserve = flow.lane == 0 and 0 or bucket[RESERVE]
    local missing = interval * (1 + bells + reserve - bucket[BURST])
    short = math.max(short, full - now + missing - bucket[LEAD], LEAST_WAIT)
  elseif interval > 0 then
    wait = math.max(wait, full + interval - now - interval * bucket[BURST])
  end
  spread = math.min(spread, bucket[SPREAD])
  leave_to_permit("g:" .. bucket[NAME], now + tonumber(ARGV[5]))
  if interval > 0 and not is_route(bucket) then leave_to_permit(fields[2 * i - 1], full) end
end
if short > 0 then
  if is_overdue(DEADLINES) then return {"SWEEP", 0} end
  redis.call("HSET", GOV, unpack(keep))
  return {"WAIT", short}
end

local charged, places = charges(limits, fields, states, wait)
local writes, write = writer(charged)
write(fields[extra], one_more(states[extra]))
write("asked", now)
local given, write_given = writer({TX.flows, ARGV[3], TX.places, table.concat(places, "+"), TX.state, "g"})
write_given(TX.probe, probe)
-- The permit comes first: it stops the script if its key is of a wrong type. The others were read above.
redis.call("HSET", tx_key(permit), unpack(given))
redis.call("ZADD", PERMITS, now + lease, permit)
redis.call("HSET", GOV, unpack(writes))
if probe then start_probe(probe, permit, now + lease) end
-- Not kept in gov.sent: what was sent outside of jobs is not put back when the store has forgotten it.
local number = math.max(newest, now + (read_number(states[extra + 6]) or 0))
return {"GO", wait, spread, number}
