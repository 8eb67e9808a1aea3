-- Put in front of every governor script at load: the names, the clock, the cell and the line.
--
-- KEYS[1] is the client's prefix "<namespace>:{<client>}:"; all other names are built from it and
-- share its hash tag. ARGV[1] is now_us: "" = this server's clock (production), an integer in tests.
-- Times are integers in us below 2^53. A cell is a row {name, interval_us, burst, lead_us,
-- spread_us, reserve, 1 = of a route}; its state, in the hash gov, is the moment it is full again
-- (field "c:" + name) and the bells that are out for it ("b:" + name). Of the burst, `reserve` tokens
-- are for lane 0 only. A cell of interval 0 without burst holds nothing back but a pause; one with a
-- burst counts the calls that are out ("l:" + name; the transaction's `cc` names them). Of a pause gov
-- keeps the reason ("y:" + scope), of the provider's headers what they leave ("z:" + scope).
-- A transaction is a hash; its fields are named in workers/ledger.py.
local base = KEYS[1]
local GOV, FLOWS, TOUCH, RETRIES = base .. "gov", base .. "flows", base .. "touch", base .. "retries"
local SUSPECTS, ACTIVE, HUNGRY = base .. "suspects", base .. "active", base .. "hungry"
local function tx_key(key) return base .. "tx:" .. key end
local function line_key(flow) return base .. "line:" .. flow end
local function job_key(job) return base .. "job:" .. job end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call("TIME")
  now = time[1] * 1000000 + time[2]
end

-- A store's clock that is so far behind the last ring was set back.
local SET_BACK = 1000000

-- A script does not roll back: a key of a wrong type must stop it before its first write. What a
-- script reads first needs no such look, for reading fails as well; what it only writes does.
local function must_be(kind, name)
  local found = redis.call("TYPE", name).ok
  if found ~= kind and found ~= "none" then
    error(name .. " is a " .. found .. ", not a " .. kind)
  end
end

-- The cell of a route (a seventh value) has state only while a pause is felt, and is full otherwise.
local function is_route(cell) return cell[7] end

-- When the cell is full again. State that was lost, or never was, is an empty bucket.
local function full_at(state, cell)
  return math.max(tonumber(state) or is_route(cell) and now or now + cell[2] * cell[3], now)
end

local function is_slots(cell) return cell[2] == 0 and cell[3] > 0 end
local function state_of(cell) return (is_slots(cell) and "l:" or "c:") .. cell[1] end

-- What the cell lets through at this moment in a lane, bells that are out not yet taken off.
local function tokens(state, cell, at, lane)
  if is_slots(cell) then return cell[3] - tonumber(state or 0) end
  if cell[2] == 0 then return full_at(state, cell) <= now and 1000000 or 0 end
  local free = math.floor((cell[2] * cell[3] - (full_at(state, cell) - at)) / cell[2])
  return lane == 0 and free or free - cell[6]
end

-- The flow of a step: the n-th of the list, or the only one when all steps share it.
local function flow_of(flows, step)
  if not string.find(flows, ",", 1, true) then return flows end
  local n = 0
  for flow in string.gmatch(flows, "[^,]+") do
    n = n + 1
    if n == tonumber(step) then return flow end
  end
end

local function read_flow(flow)
  return cjson.decode(string.match(redis.call("HGET", FLOWS, flow), "^[^\n]*"))
end

local function count_bells(limits, by)
  for _, cell in ipairs(limits) do redis.call("HINCRBY", GOV, "b:" .. cell[1], by) end
end

-- No tokens until the pause ends, and then from empty: what waited is paced, not released. Held is
-- the flow's scope; a second scope that is refused in the same second widens the pause to all.
local function pause_flow(flow, pause, why, wide)
  local scope, at = unpack(redis.call("HMGET", GOV, "refused", "refused_us"))
  wide = wide or scope and scope ~= flow.scope and now - at < 1000000
  for _, cell in ipairs(flow.limits) do
    if not is_slots(cell) and (wide or cell[1] == flow.scope) then
      local full = full_at(redis.call("HGET", GOV, "c:" .. cell[1]), cell)
      redis.call("HSET", GOV, "c:" .. cell[1], math.max(full, now + pause + cell[2] * cell[3]))
    end
  end
  redis.call("HSET", GOV, "refused", flow.scope, "refused_us", now,
    "y:" .. (wide and "client" or flow.scope), why)
end

-- A call that was out frees its places.
local function free_slots(names)
  for name in string.gmatch(names or "", "[^+]+") do redis.call("HINCRBY", GOV, "l:" .. name, -1) end
end

local function may_line(flow)
  must_be("zset", TOUCH)
  must_be("zset", RETRIES)
  must_be("zset", SUSPECTS)
  must_be("set", ACTIVE)
  must_be("zset", line_key(flow) .. ":due")
end

-- Back to the line from wherever it was, to go again at `due`. Suspects wait apart.
local function to_line(key, flow, lane, due, crashes)
  redis.call("ZREM", TOUCH, key)
  redis.call("ZREM", RETRIES, key)
  if tonumber(crashes or 0) > 0 then
    redis.call("ZADD", SUSPECTS, due, key)
    if redis.call("HGET", GOV, "suspect") == key then redis.call("HDEL", GOV, "suspect") end
  else
    redis.call("ZADD", line_key(flow) .. ":due", due, key)
    redis.call("SADD", ACTIVE, flow)
    redis.call("HINCRBY", GOV, "q:" .. lane, 1)
  end
  redis.call("HSET", tx_key(key), "s", "w")
end

-- What the end of a transaction changes in its job, found before the first write.
local function ending(key, job, state, rows, crashes)
  must_be("zset", TOUCH)
  local dead = state == "failed" or state == "unknown"
  if dead then must_be("stream", base .. "dead") end
  local it = redis.call("HMGET", job_key(job),
    state, "finished_tx", "ended", "rows", "pages", "opened", "released", "low")
  local function number(i) return tonumber(it[i] or 0) end
  local finished, ended = number(2) + 1, number(3) + rows
  local writes = {state, number(1) + rows, "finished_tx", finished, "ended", ended}
  if ended == tonumber(it[4]) then writes[7], writes[8] = "finished_us", now end
  local hungry = number(6) < number(5) and number(7) - finished < number(8)
  if hungry then must_be("set", HUNGRY) end
  local suspect = tonumber(crashes or 0) > 0 and redis.call("HGET", GOV, "suspect") == key
  return {job = job, state = state, writes = writes, dead = dead, hungry = hungry, suspect = suspect}
end

-- The end: the counters move on this edge only, the state is written last, with `fields`.
local function finish(key, ends, why, fields)
  redis.call("ZREM", TOUCH, key)
  if ends.suspect then redis.call("HDEL", GOV, "suspect") end
  redis.call("HSET", job_key(ends.job), unpack(ends.writes))
  if ends.hungry then redis.call("SADD", HUNGRY, ends.job) end
  if ends.dead then
    redis.call("XADD", base .. "dead", "*", "key", key, "job", ends.job, "state", ends.state, "why", why)
  end
  fields[#fields + 1], fields[#fields + 2] = "s", ends.state
  redis.call("HSET", tx_key(key), unpack(fields))
end
