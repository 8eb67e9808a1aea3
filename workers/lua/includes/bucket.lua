-- The bucket of one limit: how many calls it lets through, and when.
--
-- Expects  wake, counter
-- Gives    NAME, INTERVAL, BURST, LEAD, SPREAD, RESERVE, ROUTE; NO_SPREAD, MEDIA; is_route, full_at, pool_of,
--          is_governed, is_places, state_of, tokens, count_bells, free_places, end_call,
--          find_flow_of_bell, decode_or_none
--
-- A bucket is a row of a flow's definition with these columns. Its state, in the hash gov, is the moment
-- when it is full again ("c:" + name) and the bells that are out for it ("b:" + name); one of its tokens is
-- left to a permit until "g:" + name. Of the burst, RESERVE tokens are for lane 0 only. A bucket of interval
-- 0 without burst holds nothing back but a pause; one with a burst counts the calls that are out ("l:" +
-- name; the transaction's `cc` names them). Times are in us.
local NAME, INTERVAL, BURST, LEAD, SPREAD, RESERVE, ROUTE = 1, 2, 3, 4, 5, 6, 7

-- The spread of a call that no limit binds, in us: over a quarter of an hour, which is more than any lease.
local NO_SPREAD = 1000000000

-- The bucket of a route has state only while a pause is felt, and is full otherwise.
local function is_route(bucket) return bucket[ROUTE] end

-- When the bucket is full again. State that was lost, or never was, is an empty bucket.
local function full_at(state, bucket)
  local empty = is_route(bucket) and now or now + bucket[INTERVAL] * bucket[BURST]
  return math.max(read_number(state) or empty, now)
end

-- A local step makes no call. It has a single bucket, that of its pool, which counts the threads that are in
-- use and holds nothing back. ring knows how many threads there are.
local MEDIA = "pool:media"
local function pool_of(limits) return limits[1][NAME] end
local function is_governed(limits) return pool_of(limits) == "client" end

local function is_places(bucket) return bucket[INTERVAL] == 0 and bucket[BURST] > 0 end
local function state_of(bucket) return (is_places(bucket) and "l:" or "c:") .. bucket[NAME] end

-- What the bucket lets through at this moment in a lane, bells that are out not yet taken off.
local function tokens(state, bucket, moment, lane)
  if is_places(bucket) then return bucket[BURST] - (read_number(state) or 0) end
  local interval = bucket[INTERVAL]
  if interval == 0 then return full_at(state, bucket) <= now and 1000000 or 0 end
  local free = math.floor((interval * bucket[BURST] - (full_at(state, bucket) - moment)) / interval)
  return lane == 0 and free or free - bucket[RESERVE]
end

local function count_bells(limits, change)
  for _, bucket in ipairs(limits) do add_to(GOV, "b:" .. bucket[NAME], change) end
end

-- A call that was out frees its places.
local function free_places(names)
  for name in string.gmatch(names or "", "[^+]+") do add_to(GOV, "l:" .. name, -1) end
  if (names or "") ~= "" then need_ring(now) end
end

-- The call of a transaction is out no more, and no probe.
local function end_call(key, places, probe)
  if places then free_places(places) end
  if places or probe then redis.call("HDEL", tx_key(key), TX.places, TX.probe) end
end

-- The flow of a transaction whose bell is out; nothing where that cannot be read.
local function find_flow_of_bell(key)
  local is_whole, flow_name = pcall(function()
    local tx = read_tx(key, "state step flows")
    return tx.state == "r" and flow_of(tx.flows, tx.step)
  end)
  return is_whole and flow_name or nil
end

-- A definition, or one without limits in the same scope where it cannot be read.
local function decode_or_none(definition, scope)
  local is_whole, flow = pcall(decode, definition)
  return is_whole and flow or {limits = {}, scope = scope}
end
