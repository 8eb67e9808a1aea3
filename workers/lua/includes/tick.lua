-- What comes before the bells, once a tick: a page to open, retries whose countdown is over, and buckets that
-- start empty.
--
-- Expects  bucket
-- Gives    MOST_JOBS; gov, workers, passed, read_gov, number, read_others, count_breakers, job_to_open,
--          try_flow, count_retries, start_empty, start_all_empty
--
-- `gov` is the whole hash of that name, and kept true. `workers` are its fields that say the threads of one,
-- `passed` has those that count the turns which went before a lane's (includes/lanes.lua).

-- So long, in us, one caller has to open a page before another one is asked, for it may have died.
local OPENING = 250000
-- So many jobs that want a page are looked at in a tick, and so many countdowns are ended, so that one script
-- stays short.
local MOST_JOBS = 4
local MOST_COUNTDOWNS = 200

local gov, workers, passed
local open_breakers
local function start_tick() gov, workers, passed, open_breakers = {}, {}, {}, 0 end

local function number(field) return read_number(gov[field]) or 0 end

-- How many others went since a row that was refused by a 429, as the field of an open refusal says, and when
-- the newest one came. After OPEN_FOR it is open no more, whoever was refused.
local OPEN_FOR = 600000000
local function read_others(field)
  local count, refused_us = string.match(gov[field], "^(%d) (%d+)$")
  return tonumber(count) or 0, read_number(refused_us) or 0
end

-- Returns whether a counter of gov cannot be read.
local function read_gov()
  local flat, is_damaged = redis.call("HGETALL", GOV), false
  workers, passed, open_breakers = {}, {}, 0
  for i = 1, #flat, 2 do
    local field = flat[i]
    gov[field] = flat[i + 1]
    local kind = string.byte(field) -- the first byte, w, m, k, s, b, l, q or 4, first: there are many fields
    if (kind == 119 or kind == 109) and string.find(field, "^[wm]:") then workers[#workers + 1] = field
    elseif kind == 115 and string.find(field, "^s:%d:") then passed[field] = number(field)
    elseif kind == 107 and string.find(field, "^k:") then open_breakers = open_breakers + 1
    elseif (kind == 98 or kind == 108 or kind == 113) and not read_number(gov[field]) then
      is_damaged = is_damaged or string.find(field, "^[blq]:") ~= nil
    elseif kind == 52 and string.find(field, "^429:") and now - select(2, read_others(field)) > OPEN_FOR then
      redis.call("HDEL", GOV, field)
      gov[field] = nil
    end
  end
  return is_damaged
end
local function count_breakers() return open_breakers end

-- A job that wants its next page opened, given to one caller at a time: until the page is open (open.lua),
-- or OPENING is over. "" = none.
local function job_to_open()
  for _, job in ipairs(redis.call("SRANDMEMBER", NEEDS_PAGE, MOST_JOBS)) do
    local opening = "o:" .. job
    if number(opening) <= now then
      gov[opening] = now + OPENING
      redis.call("HSET", GOV, opening, gov[opening])
      return job
    end
  end
  return ""
end

-- The flow of a transaction, by its name, and the transaction's state; nothing where it cannot be read.
local function read_flow_of(key)
  local tx = read_tx(key, "state step flows")
  local flow_name = flow_of(tx.flows, tx.step)
  return flow_name, read_flow(flow_name), tx.state
end
local function try_flow(key)
  local is_whole, flow_name, flow, state = pcall(read_flow_of, key)
  if is_whole then return flow_name, flow, state end
end

-- A retry whose countdown is over counts as a bell from now on: Celery brings its message, and if that is
-- lost, the sweep finds it in deadlines.
local function count_retries()
  for _, key in ipairs(redis.call("ZRANGEBYSCORE", RETRIES, "-inf", now, "LIMIT", 0, MOST_COUNTDOWNS)) do
    local _, flow, state = try_flow(key)
    if not flow then redis.call("ZADD", DEADLINES, now, key) -- the sweep decides what becomes of it
    elseif state == "t" then
      for _, bucket in ipairs(flow.limits) do
        local bells = "b:" .. bucket[NAME]
        gov[bells] = add_to(GOV, bells, 1)
      end
      redis.call("HSET", tx_key(key), TX.state, "r")
    end
    redis.call("ZREM", RETRIES, key)
  end
end

local function start_empty(bucket)
  local state = "c:" .. bucket[NAME]
  gov[state] = math.max(number(state), now + bucket[INTERVAL] * bucket[BURST])
  redis.call("HSET", GOV, state, gov[state])
end

-- After a silence every bucket starts empty.
local function start_all_empty()
  for _, definition in ipairs(redis.call("HVALS", FLOWS)) do
    local is_whole, flow = pcall(decode, definition)
    for _, bucket in ipairs(is_whole and flow.limits or {}) do
      if bucket[INTERVAL] > 0 and not is_route(bucket) then start_empty(bucket) end
    end
  end
end
