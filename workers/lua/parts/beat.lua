-- What comes before the bells, once a beat: the turn, the threads of the fleet, retries whose countdown
-- is over, and buckets that start empty. `gov` is the whole hash, and kept true.
local gov, workers
local function start_beat() gov, workers = {}, {} end

local function look()
  local flat = redis.call("HGETALL", GOV)
  for i = 1, #flat, 2 do
    local field = flat[i]
    gov[field] = flat[i + 1]
    local kind = string.byte(field) -- a look at the first byte, for there are many fields
    if (kind == 119 or kind == 109) and string.find(field, "^[wm]:") then workers[#workers + 1] = field end
  end
end
local function number(field) return tonumber(gov[field] or 0) end

-- Each caller is given the next free turn, so that N pacers tick evenly and one alone suffices. Of each
-- live worker gov has the threads: "w:" + worker, in the pool media "m:" + worker.
local function take_turn(worker, threads, pool, beat)
  local turn, kind = math.max(number("beat"), now) + beat, pool == "media" and "m" or "w"
  local own, live = kind .. ":" .. worker, {w = 0, m = 0}
  redis.call("HSET", GOV, "at", now, "beat", turn,
    own, threads .. " " .. string.format("%.0f", now + 5000000))
  live[kind] = threads
  for _, field in ipairs(workers) do
    if field ~= own then
      local count, till = string.match(gov[field], "(%d+) (%d+)")
      kind = string.sub(field, 1, 1)
      if tonumber(till) > now then live[kind] = live[kind] + tonumber(count)
      else redis.call("HDEL", GOV, field) end
    end
  end
  return turn, live.w, live.m
end

-- A job that wants its next page opened, told to one caller at a time: until the page is open
-- (lua/open.lua), or for OPENING if that caller dies.
local OPENING = 250000
local function hungry_job()
  for _, job in ipairs(redis.call("SRANDMEMBER", HUNGRY, 4)) do
    if number("o:" .. job) <= now then
      redis.call("HSET", GOV, "o:" .. job, now + OPENING)
      return job
    end
  end
  return ""
end

-- A retry whose countdown is over is a bell from now on.
local function count_retries()
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
end

local function start_empty(cell)
  local state = "c:" .. cell[1]
  gov[state] = math.max(number(state), now + cell[2] * cell[3])
  redis.call("HSET", GOV, state, gov[state])
end

-- Nobody rang for a while: no worker, or a store that was away and may have lost its last moments.
local function start_all_empty()
  for _, definition in ipairs(redis.call("HVALS", FLOWS)) do
    for _, cell in ipairs(decode(definition).limits) do
      if cell[2] > 0 and not is_route(cell) then start_empty(cell) end
    end
  end
end

-- Whether a moment of this set is over.
local function overdue(set)
  local oldest = redis.call("ZRANGE", set, 0, 0, "WITHSCORES")
  return oldest[2] and tonumber(oldest[2]) <= now
end
