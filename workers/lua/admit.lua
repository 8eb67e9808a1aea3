#!lua
-- Decides whether one call may leave now, and if so makes SENT durable: all limits or none.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  key         idempotency key of the transaction
-- ARGV[3]  step        1-based
-- ARGV[4]  fence       a name never used before: who may settle this grant
-- ARGV[5]  lease_us    how long nobody else may touch the transaction
-- ARGV[6]  max_age_us  oldest age of a key, from its first send, at which a send may start
-- Reads    tx:<key>, flows, gov; writes gov, tx:<key>, touch, retries, seconds; on WAIT the line
-- Returns  {"GO", start_in_us, spread_us, job, page, attempts, unknown, throttled, answers}
--          {"WAIT", short_us}  a limit is short or held so long: back in the line, nothing is charged
--          {"DROP", why}       not yours: missing, ended, older step, in the line, lease held
--          {"OLD", state}      its key is past max_age_us: ended without being sent
-- Cost     O(limits), 7 to 9 commands
local key, step, fence = ARGV[2], ARGV[3], ARGV[4]
local name = tx_key(key)
local tx = redis.call("HMGET", name, "s", "k", "fl", "t1", "u", "at", "th", "j", "p", "an", "r", "cr")
local state = tx[1]
if not state then return {"DROP", "missing"} end
if state == "s" then return {"DROP", "lease held"} end
if state == "w" then return {"DROP", "in the line"} end
if state ~= "r" and state ~= "t" then return {"DROP", "ended"} end
if tx[2] ~= step then return {"DROP", "other step"} end
if state == "t" and tonumber(redis.call("ZSCORE", RETRIES, key) or 0) > now + 20000 then
  return {"DROP", "not due"}
end

local id = flow_of(tx[3], step)
local flow = read_flow(id)
local limits = flow.limits
local bell = state == "r" and 1 or 0

if tx[4] and now - tonumber(tx[4]) > tonumber(ARGV[6]) then
  redis.call("HLEN", GOV)
  may_finish(tx[8])
  if bell == 1 then count_bells(limits, -1) end
  local ended = tx[5] == "1" and "unknown" or "failed"
  redis.call("HSET", name, "e", "the idempotency key is older than the provider remembers it")
  finish(key, tx[8], ended, tonumber(tx[11] or 1), "key too old")
  return {"OLD", ended}
end

local fields = {}
for i, cell in ipairs(limits) do
  fields[2 * i - 1], fields[2 * i] = "c:" .. cell[1], "b:" .. cell[1]
end
local states = redis.call("HMGET", GOV, unpack(fields))
local wait, spread, fulls = 0, 1000000000, {}
for i, cell in ipairs(limits) do
  local full = full_at(states[2 * i - 1], cell)
  local short = full + cell[2] - now - cell[2] * cell[3]
  -- A limit with a lead may grant a moment up to 100 ms ahead; the thread waits for it.
  if short > (cell[4] > 0 and 100000 or 0) then
    may_line(id)
    if bell == 1 then count_bells(limits, -1) end
    to_line(key, id, flow.lane, now, tx[12])
    return {"WAIT", short}
  end
  wait, spread, fulls[i] = math.max(wait, short), math.min(spread, cell[5]), full
end
-- Every limit is charged at the moment the call leaves: one with a lead may put it off, and a call
-- that came late under the others would break their arithmetic.
local writes = {}
for i, cell in ipairs(limits) do
  if cell[2] > 0 then
    writes[#writes + 1] = fields[2 * i - 1]
    writes[#writes + 1] = math.max(fulls[i], now + wait) + cell[2]
  end
  writes[#writes + 1], writes[#writes + 2] = fields[2 * i], tonumber(states[2 * i] or 0) - bell
end

-- The lease comes first: it stops the script if touch is of a wrong type. The hashes were read above.
must_be("hash", base .. "seconds")
redis.call("ZADD", TOUCH, now + tonumber(ARGV[5]), key)
local second = math.floor(now / 1000000)
if redis.call("HINCRBY", base .. "seconds", second, 1) == 1 then
  for _, old in ipairs(redis.call("HKEYS", base .. "seconds")) do
    if math.abs(second - old) > 60 then redis.call("HDEL", base .. "seconds", old) end
  end
end
redis.call("HSET", GOV, unpack(writes))
if bell == 0 then redis.call("ZREM", RETRIES, key) end
if tx[4] then
  redis.call("HSET", name, "f", fence, "s", "s")
else
  redis.call("HSET", name, "t1", now, "f", fence, "s", "s")
end
return {"GO", wait, spread, tx[8], tx[9], tx[6] or "0", tx[5] or "0", tx[7] or "0", tx[10] or ""}
