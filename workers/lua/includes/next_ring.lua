-- When the next ring is needed: the moment at which the first that waits can go, or something falls due.
--
-- Expects  bucket, tick, capacity, bells, quarantine_turn
-- Gives    find_next_ring, plan_next_ring

local NEVER = 9007199254740992
-- So long, in us, after a ring that met a flow which nobody can read, another one asks for its definition.
local UNKNOWN = 1000000

local function first_moment(zset)
  local first = redis.call("ZRANGE", zset, 0, 0, "WITHSCORES")
  return tonumber(first[2]) or NEVER
end

-- From when on a limit lets one more through in this lane, as far as time alone brings that about: a place
-- that is taken, a probe that is out and a bell that comes back wake the dispatchers.
local function free_from(bucket, lane)
  local name, interval = bucket[NAME], bucket[INTERVAL]
  local reserve = lane == 0 and bucket[RESERVE] or 0
  if not left[name] then return now end -- no thread was free, so that nobody looked at it
  local moment = math.max(read_number(gov["k:" .. name]) or now, now)
  if probes_left[name] and probes_left[name] <= 0 and moment <= now then return NEVER end -- it is out
  if left[name] + reserve >= 1 then return moment end
  if is_places(bucket) then return NEVER end
  local full = full_at(gov["c:" .. name], bucket)
  if interval == 0 then return math.max(moment, full) end
  -- left is what is whole of the tokens, so the next one comes with the rest of its interval.
  local lacks = 1 - left[name] - reserve
  local part = (interval * bucket[BURST] - (full - now - bucket[LEAD])) % interval
  return math.max(moment, now + lacks * interval - part)
end

-- From when on a flow's limits let something through; a worker that begins to do such steps wakes the
-- dispatchers.
local function open_from(limits, lane, scope)
  if threads_of(limits) == 0 then return NEVER end
  local moment = math.max(read_number(gov["k:client"]) or now, read_number(gov["k:" .. scope]) or now)
  for _, bucket in ipairs(limits) do moment = math.max(moment, free_from(bucket, lane)) end
  return moment
end

-- From when on something of a backlog may go: a new one does at once.
local function ready_from(flow_name)
  local key = backlog_key(flow_name)
  if redis.call("EXISTS", key) == 1 then return now end
  return first_moment(key .. ":due")
end

-- From when on one of the quarantine may go: none while one of it is out, which wakes the dispatchers.
local function quarantine_from()
  if gov.quarantined then return NEVER end
  local later = redis.call("ZRANGEBYSCORE", QUARANTINE, now + 1, "+inf", "WITHSCORES", "LIMIT", 0, 1)
  local moment = tonumber(later[2]) or NEVER
  for _, key in ipairs(redis.call("ZRANGEBYSCORE", QUARANTINE, "-inf", now, "LIMIT", 0, MOST_PASSED)) do
    local _, flow = try_flow(key)
    if flow then moment = math.min(moment, open_from(flow.limits, flow.lane, flow.scope)) end
  end
  return moment
end

-- From when on a page is to be opened: at once, or when the one who was asked had the time for it.
local function page_from()
  local moment = NEVER
  for _, job in ipairs(redis.call("SRANDMEMBER", NEEDS_PAGE, MOST_JOBS)) do
    moment = math.min(moment, number("o:" .. job))
  end
  return moment
end

-- The moment; nothing where nobody is to ring before being woken. `tick` is the shortest distance.
local function find_next_ring(tick)
  local moment = math.min(first_moment(RETRIES), first_moment(DEADLINES), first_moment(PERMITS), page_from())
  moment = math.min(moment, quarantine_from())
  local known, first_lane = {}, number("q:0") > 0 and 0 or nil
  for _, flow_name in ipairs(redis.call("SMEMBERS", ACTIVE)) do
    local is_whole, flow = pcall(read_flow, flow_name)
    if not is_whole then moment = math.min(moment, now + UNKNOWN)
    elseif moment > now then
      local name = flow.lane .. limits_name(parse_flow_name(flow_name))
      known[name] = known[name] or open_from(flow.limits, first_lane or flow.lane, flow.scope)
      if known[name] < moment then
        moment = math.min(moment, math.max(known[name], ready_from(flow_name)))
      end
    end
  end
  return moment < NEVER and math.max(moment, now + tick) or nil
end

-- Notes when the next ring is needed; returns in how many us that is, -1 = not before somebody wakes it.
local function plan_next_ring(moment)
  if moment then redis.call("HSET", GOV, "next", moment)
  elseif gov.next then redis.call("HDEL", GOV, "next") end
  return moment and moment - now or -1
end
