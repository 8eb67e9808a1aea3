#!lua
-- Rings for what can leave now: takes transactions out of their lines, in the order of lanes and,
-- within a lane, of the least pass of their tenants, as far as tokens and threads go.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  worker    name of the caller
-- ARGV[3]  threads   threads of the caller
-- ARGV[4]  grace_us  how long a bell may stay unanswered
-- ARGV[5]  beat_us   time between two rings of the whole fleet
-- Reads    gov, active, flows, the lines, touch, retries, suspects, hungry; writes gov, the lines,
--          tx:<key>, touch, retries, suspects
-- Returns  {turn_us, sweep, hungry, key, step, steps, job, key, step, …}: when the caller's next
--          turn is, in us from now; 1 when the sweep has work; a job that wants its next page
--          opened or ""; then four values for each bell, which the caller publishes
--          1 and no bells, too, when the store's clock was set back: the sweep mends it
-- Cost     O(fields of gov + flows with work × log + 4 per bell)
may_line("")
must_be("set", HUNGRY)
must_be("hash", FLOWS)
local gov, flat = {}, redis.call("HGETALL", GOV)
for i = 1, #flat, 2 do gov[flat[i]] = flat[i + 1] end
local function number(field) return tonumber(gov[field] or 0) end

-- One beat for the fleet: each caller is given the next free turn, so that N pacers tick evenly.
local beat = tonumber(ARGV[5])
if number("at") - now >= SET_BACK then return {beat, 1, ""} end
local turn = math.max(number("beat"), now) + beat
redis.call("HSET", GOV, "at", now, "beat", turn,
  "w:" .. ARGV[2], ARGV[3] .. " " .. string.format("%.0f", now + 5000000))
local threads = tonumber(ARGV[3])
for field, value in pairs(gov) do
  if string.sub(field, 1, 2) == "w:" and field ~= "w:" .. ARGV[2] then
    local count, till = string.match(value, "(%d+) (%d+)")
    if tonumber(till) > now then threads = threads + tonumber(count)
    else redis.call("HDEL", GOV, field) end
  end
end

-- A retry whose countdown is over is a bell from now on.
for _, key in ipairs(redis.call("ZRANGEBYSCORE", RETRIES, "-inf", now, "LIMIT", 0, 200)) do
  local tx = redis.call("HMGET", tx_key(key), "s", "fl", "k")
  if tx[1] == "t" then
    for _, cell in ipairs(read_flow(flow_of(tx[2], tx[3])).limits) do
      gov["b:" .. cell[1]] = redis.call("HINCRBY", GOV, "b:" .. cell[1], 1)
    end
    redis.call("HSET", tx_key(key), "s", "r")
  end
  redis.call("ZREM", RETRIES, key)
end

-- Nobody rang for a while: no worker, or a store that was away and may have lost its last
-- moments. Then, and for a cell without state, the bucket starts empty.
if now - number("beat") > 500000 then
  for _, definition in ipairs(redis.call("HVALS", FLOWS)) do
    for _, cell in ipairs(cjson.decode(string.match(definition, "^[^\n]*")).limits) do
      local state = "c:" .. cell[1]
      if cell[2] > 0 and not is_route(cell) then
        gov[state] = math.max(number(state), now + cell[2] * cell[3])
        redis.call("HSET", GOV, state, gov[state])
      end
    end
  end
end

-- Bells and leases together never exceed 1.25 x the threads: the broker holds next to nothing.
local room = math.floor(threads * 1.25)
  - redis.call("ZCARD", TOUCH) + redis.call("ZCARD", RETRIES)
room = math.min(room, 1000) -- what one script, and the batch that is published, may hold
local left = {} -- tokens of each limit that no bell has spoken for, the reserve left out
local function available(limits, lane)
  local least = room
  for _, cell in ipairs(limits) do
    local name = cell[1]
    if not left[name] then
      local state = gov[state_of(cell)]
      if not state and cell[2] > 0 and not is_route(cell) then
        state = now + cell[2] * cell[3]
        redis.call("HSET", GOV, "c:" .. name, state)
      end
      left[name] = tokens(state, cell, now + cell[4]) - number("b:" .. name)
    end
    least = math.min(least, left[name] + (lane == 0 and cell[6] or 0))
  end
  return least
end

local oldest = redis.call("ZRANGE", TOUCH, 0, 0, "WITHSCORES")
local reply = {turn - now, (oldest[2] and tonumber(oldest[2]) <= now) and 1 or 0,
  redis.call("SRANDMEMBER", HUNGRY) or ""}
local counted, touched = {}, {} -- written once, at the end
local function count(field, by) counted[field] = (counted[field] or 0) + by end
local function ring(key, limits)
  local tx = redis.call("HMGET", tx_key(key), "s", "k", "n", "j")
  if tx[1] ~= "w" then return end -- nobody waits under this name any more
  room = room - 1
  for _, cell in ipairs(limits) do
    left[cell[1]] = left[cell[1]] - 1
    count("b:" .. cell[1], 1)
  end
  touched[#touched + 1], touched[#touched + 2] = now + tonumber(ARGV[4]), key
  redis.call("HSET", tx_key(key), "s", "r")
  for _, value in ipairs({key, tx[2], tx[3], tx[4]}) do reply[#reply + 1] = value end
  return true
end

-- Suspects, under which a worker died, go one at a time: one bad row condemns no neighbours.
local suspect = not gov.suspect and room > 0
  and redis.call("ZRANGEBYSCORE", SUSPECTS, "-inf", now, "LIMIT", 0, 1)[1]
if suspect then
  local tx = redis.call("HMGET", tx_key(suspect), "fl", "k")
  local flow = read_flow(flow_of(tx[1], tx[2]))
  if available(flow.limits, flow.lane) > 0 then
    redis.call("ZREM", SUSPECTS, suspect)
    if ring(suspect, flow.limits) then redis.call("HSET", GOV, "suspect", suspect) end
  end
end

-- Stride scheduling within a lane: the tenant with the least pass goes. One that was idle starts
-- at the lane's virtual time, so that it is neither owed its idle time nor made to wait.
-- A flow's name says lane and tenant and ends equally for equal limits; it is read when its turn comes.
local looks, tenants, by_name, limits_of = room > 0, {}, {}, {}
local busy = {} -- by lane: limits that let something through
for _, id in ipairs(looks and redis.call("SMEMBERS", ACTIVE) or {}) do
  local name, lane, limits = string.match(id, "^((%d):.-):(.*)$")
  limits_of[limits] = limits_of[limits] or read_flow(id).limits
  busy[lane] = busy[lane] or {}
  if busy[lane][limits] == nil then
    busy[lane][limits] = available(limits_of[limits], tonumber(lane)) > 0
  end
  if busy[lane][limits] then
    local tenant = by_name[name]
    if not tenant then
      local pass = math.max(number("p:" .. name), number("v:" .. lane))
      tenant = {name = name, lane = tonumber(lane), pass = pass, active = {}}
      by_name[name], tenants[#tenants + 1] = tenant, tenant
    end
    tenant.active[#tenant.active + 1] = {id = id, limits = limits_of[limits]}
  end
end

-- In a lane without work nobody is ahead of anybody: its passes are forgotten.
for _, lane in ipairs(looks and {"0", "1", "2"} or {}) do
  if gov["v:" .. lane] and not busy[lane] then
    for field in pairs(gov) do
      if string.find(field, "^[pv]:" .. lane) then redis.call("HDEL", GOV, field) end
    end
  end
end

-- The tenant's flows in which something may go now.
local function flows_of(tenant)
  local flows = {}
  for _, one in ipairs(tenant.active) do
    local id, line = one.id, line_key(one.id)
    local due, new = redis.call("ZCOUNT", line .. ":due", "-inf", now), redis.call("LLEN", line)
    if due + new > 0 then
      local flow = read_flow(id)
      tenant.stride = flow.stride
      flows[#flows + 1] = {line = line, limits = flow.limits, due = due, new = new}
    elseif redis.call("EXISTS", line .. ":due") == 0 then
      redis.call("SREM", ACTIVE, id)
    end
  end
  return flows
end

local function before(a, b)
  return a.lane < b.lane or a.lane == b.lane and a.pass < b.pass
end
table.sort(tenants, before)
local stands = {} -- the lane's virtual time: the pass of who went last

-- Which of a tenant's flows goes: one whose transactions are due, else each in turn.
local turns = math.floor(turn / beat)
local function next_flow(tenant)
  local tokens_left = false
  for _, one in ipairs(tenant.active) do
    tokens_left = tokens_left or available(one.limits, tenant.lane) > 0
  end
  if not tokens_left then return nil end
  tenant.flows = tenant.flows or flows_of(tenant)
  local found
  for i = 1, #tenant.flows do
    local flow = tenant.flows[(turns + i) % #tenant.flows + 1]
    if flow.due + flow.new > 0 and available(flow.limits, tenant.lane) > 0 then
      if flow.due > 0 then return flow end
      found = found or flow
    end
  end
  return found
end

local at = 1
while tenants[at] and room > 0 do
  local tenant, after = tenants[at], tenants[at + 1]
  if after and before(after, tenant) then
    local place = at -- it had its turn: down to where it belongs now
    while tenants[place + 1] and before(tenants[place + 1], tenant) do
      tenants[place], place = tenants[place + 1], place + 1
    end
    tenants[place] = tenant
  else
    local flow, key = next_flow(tenant), nil
    if not flow then
      at = at + 1
    else
      if flow.due > 0 then
        key = redis.call("ZRANGEBYSCORE", flow.line .. ":due", "-inf", now, "LIMIT", 0, 1)[1]
        redis.call("ZREM", flow.line .. ":due", key)
        flow.due = flow.due - 1
      else
        key = redis.call("LPOP", flow.line)
        flow.new = flow.new - 1
      end
      turns = turns + 1
      count("q:" .. tenant.lane, -1)
      stands[tenant.lane] = tenant.pass
      tenant.pass = tenant.pass + tenant.stride
      tenant.rung = true
      ring(key, flow.limits)
    end
  end
end
if #touched > 0 then redis.call("ZADD", TOUCH, unpack(touched)) end
local writes = {}
local function write(field, value) writes[#writes + 1], writes[#writes + 2] = field, value end
for field, by in pairs(counted) do write(field, number(field) + by) end
for lane, pass in pairs(stands) do write("v:" .. lane, pass) end
for _, tenant in ipairs(tenants) do
  if tenant.rung then write("p:" .. tenant.name, tenant.pass) end
end
if #writes > 0 then redis.call("HSET", GOV, unpack(writes)) end
return reply
