-- Who rings when, and the threads of the fleet.
--
-- Expects  tick
-- Gives    take_turn, awaited_until

-- A worker that has not rung for so many us is not counted any more: it died, or lost the store.
local WORKER_LIVES = 5000000

-- Each caller is given the next free turn, so that N dispatchers tick evenly and one alone suffices. Of
-- each live worker gov has the threads: "w:" + worker, in the pool media "m:" + worker. Returns the turn,
-- the threads of the pool calls, and those of the pool media.
local function take_turn(worker, threads, pool, tick)
  local turn, kind = math.max(number("tick"), now) + tick, pool == "media" and "m" or "w"
  local own, live = kind .. ":" .. worker, {w = 0, m = 0}
  redis.call("HSET", GOV, "at", now, "tick", turn,
    own, threads .. " " .. string.format("%.0f", now + WORKER_LIVES))
  live[kind] = threads
  for _, field in ipairs(workers) do
    if field ~= own then
      local count, till = string.match(gov[field], "^(%d+) (%d+)$")
      kind = string.sub(field, 1, 1)
      if (tonumber(till) or 0) > now then live[kind] = live[kind] + tonumber(count)
      else redis.call("HDEL", GOV, field) end
    end
  end
  return turn, live.w, live.m
end

-- Until when a worker is waited for that lived before `since` and has not rung after it; 0 = there is none.
local function awaited_until(worker, pool, since)
  local own, awaited = (pool == "media" and "m:" or "w:") .. worker, 0
  for _, field in ipairs(workers) do
    local till = tonumber(string.match(gov[field], "^%d+ (%d+)$")) or 0
    local rung = till - WORKER_LIVES >= since
    if field ~= own and not rung and till > now then awaited = math.max(awaited, till) end
  end
  return math.min(awaited, since + WORKER_LIVES)
end
