-- Who rings, and the threads of the fleet.
--
-- Expects  tick
-- Gives    register, owns, owned_for, awaited_until
--
-- One worker rings for a client at a time. The others come by now and then, so that the fleet's threads are
-- known, and what they have sent is compared with the store.

-- A worker that has not come by for so many us is not counted any more: it died, or lost the store.
local WORKER_LIVES = 5000000
-- So long, in us, nobody else rings after the one who did. When that one is gone, the first to ask follows.
local OWNED = 1000000

-- Notes a worker and its threads: "w:" + worker, in the pool media "m:" + worker. Returns the threads of the
-- pool calls, and those of the pool media, of all workers that live, and whether this one is new.
local function register(worker, threads, pool)
  local kind = pool == "media" and "m" or "w"
  local own, live = kind .. ":" .. worker, {w = 0, m = 0}
  redis.call("HSET", GOV, "at", now, own, threads .. " " .. string.format("%.0f", now + WORKER_LIVES))
  live[kind] = threads
  for _, field in ipairs(workers) do
    if field ~= own then
      local count, till = string.match(gov[field], "^(%d+) (%d+)$")
      kind = string.sub(field, 1, 1)
      if (tonumber(till) or 0) > now then live[kind] = live[kind] + tonumber(count)
      else redis.call("HDEL", GOV, field) end
    end
  end
  return live.w, live.m, not gov[own]
end

-- For how many us nobody but the owner rings, and who that is. A moment of before a clock that was set back
-- does not count.
local function owned_for()
  local owner, till = string.match(gov.owner or "", "^(%S+) (%d+)$")
  local left = (tonumber(till) or 0) - now
  return left <= OWNED and math.max(left, 0) or 0, owner
end

-- Whether the worker is the one that rings, as which it is noted then.
local function owns(worker)
  local left, owner = owned_for()
  if left > 0 and owner ~= worker then return false end
  redis.call("HSET", GOV, "owner", string.format("%s %.0f", worker, now + OWNED))
  return true
end

-- Until when a worker is waited for that lived before `since` and has not come by after it; 0 = none is.
local function awaited_until(worker, pool, since)
  local own, awaited = (pool == "media" and "m:" or "w:") .. worker, 0
  for _, field in ipairs(workers) do
    local till = tonumber(string.match(gov[field], "^%d+ (%d+)$")) or 0
    local came = till - WORKER_LIVES >= since
    if field ~= own and not came and till > now then awaited = math.max(awaited, till) end
  end
  return math.min(awaited, since + WORKER_LIVES)
end
