#!lua
-- Decides whether one call may leave now, and if so makes SENT durable: all limits or none. A step that
-- makes no call has no limits, and neither a hold nor the breaker stops it.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  key         idempotency key of the transaction
-- ARGV[3]  step        1-based
-- ARGV[4]  fence       a name never used before: who may settle this grant
-- ARGV[5]  lease_us    how long nobody else may touch the transaction
-- ARGV[6]  max_age_us  oldest age of a key, from its first send, at which a send may start
-- Parts    seconds, cell, charge, line, looking
-- Reads    tx:<key>, flows, gov; writes gov, tx:<key>, touch, retries; on WAIT the line
-- Returns  {"GO", start_in_us, spread_us, job, page, attempts, unknown, throttled, answers,
--           memo, generation of the key, calls of this step that are done}
--          {"WAIT", short_us}  a limit is short or held so long (1 = all places of a limit are
--                              taken), or a probe of the breaker is out: back in the line,
--                              nothing is charged
--          {"DROP", why}       not yours: missing, ended, older step, in the line, lease held
--          {"SPLIT", job, page}  the batch was refused: nothing is written, lua/split.lua does it
--          {"OLD", job, page, generation}  its key is past max_age_us, or the provider takes it no
--                              more: nothing is written, lua/rotate.lua decides; a read and a
--                              look-up carry no key, and may go
-- Cost     O(limits), 6 commands
local key, step, fence, lease = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local name = tx_key(key)
local tx = redis.call("HMGET", name, "s", "k", "fl", "t1", "u", "at", "th", "j", "p", "an", "r", "cr",
  "m", "gn", "g", "pt")
local state = tx[1]
if not state then return {"DROP", "missing"} end
if state == "s" then return {"DROP", "lease held"} end
if state == "w" then return {"DROP", "in the line"} end
if state ~= "r" and state ~= "t" then return {"DROP", "ended"} end
if tx[2] ~= step then return {"DROP", "other step"} end
if state == "t" and tonumber(redis.call("ZSCORE", RETRIES, key) or 0) > now + 20000 then
  return {"DROP", "not due"}
end

if splits(tx[13]) then return {"SPLIT", tx[8], tx[9]} end
local keyed = not looks(tx[13]) and guard_of(tx[15], step) ~= "r" -- else it carries no key
local old = tx[4] and keyed and now - tonumber(tx[4]) > tonumber(ARGV[6])
if old or refuses(tx[13]) then return {"OLD", tx[8], tx[9], tx[14] or "1"} end

local id = flow_of(tx[3], step)
local flow = read_flow(id)
local limits, fields, governed = flow.limits, {unpack(flow.fields)}, is_governed(flow.limits) -- a copy: it grows
local bell = state == "r" and 1 or 0

local grants = #fields + 1
fields[grants], fields[grants + 1] = slot_of("n:"), "breaker"
local states = redis.call("HMGET", GOV, unpack(fields))
local function back(short)
  may_line(id)
  if bell == 1 then count_bells(limits, -1) end
  to_line(key, id, flow.lane, now, tx[12])
  return {"WAIT", short}
end
local probe = governed and tonumber(states[grants + 1])
if probe and probe > now then return back(probe - now) end
local wait, spread = 0, 1000000000
for i, cell in ipairs(limits) do
  local state, short = states[2 * i - 1], nil
  if is_slots(cell) then short = tonumber(state or 0) < cell[3] and 0 or 1
  else short = full_at(state, cell) + cell[2] - now - cell[2] * cell[3] end
  -- A limit with a lead may grant a moment up to 100 ms ahead; the thread waits for it.
  if short > (cell[4] > 0 and 100000 or 0) then return back(short) end
  wait, spread = math.max(wait, short), math.min(spread, cell[5])
end
local writes, slots = charges(limits, fields, states, wait)
local function write(field, value) writes[#writes + 1], writes[#writes + 2] = field, value end
if governed then write(fields[grants], one_more(states[grants])) end
for i = 2, bell == 1 and 2 * #limits or 0, 2 do write(fields[i], tonumber(states[i] or 0) - 1) end
if probe then
  write("breaker", now + lease)
  write("prober", key)
end

-- The lease comes first: it stops the script if touch is of a wrong type. The hashes were read above.
redis.call("ZADD", TOUCH, now + lease, key)
redis.call("HSET", GOV, unpack(writes))
if bell == 0 then redis.call("ZREM", RETRIES, key) end
local sent = {"f", fence, "s", "s"}
if not tx[4] and keyed then sent[5], sent[6] = "t1", now end
if slots[1] then sent[#sent + 1], sent[#sent + 2] = "cc", table.concat(slots, "+") end
if probe then sent[#sent + 1], sent[#sent + 2] = "pb", 1 end
redis.call("HSET", name, unpack(sent))
return {"GO", wait, spread, tx[8], tx[9], tx[6] or "0", tx[5] or "0", tx[7] or "0", tx[10] or "",
  tx[13] or "", tx[14] or "1", tx[16] or "0"}
