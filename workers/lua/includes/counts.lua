-- What the counters of gov must say: bells that are out, places that are taken, and what waits in each lane.
--
-- Expects  bucket
-- Gives    count_all, heal_counters
--
-- A transaction that cannot be read counts nothing.

local function count_all()
  local counted = {}
  local function count(field, more) counted[field] = (counted[field] or 0) + more end
  local function count_places(places)
    for name in string.gmatch(places or "", "[^+]+") do count("l:" .. name, 1) end
  end
  local function count_backlog(flow_name)
    local backlog, lane = backlog_key(flow_name), read_flow(flow_name).lane
    count("q:" .. lane, redis.call("LLEN", backlog) + redis.call("ZCARD", backlog .. ":due"))
  end
  local function count_out(key)
    local tx = read_tx(key, "state step flows places")
    local limits = tx.state == "r" and read_flow(flow_of(tx.flows, tx.step)).limits or {}
    count_places(tx.places)
    for _, bucket in ipairs(limits) do count("b:" .. bucket[NAME], 1) end
  end
  for _, flow_name in ipairs(redis.call("HKEYS", FLOWS)) do pcall(count_backlog, flow_name) end
  for _, key in ipairs(redis.call("ZRANGE", DEADLINES, 0, -1)) do pcall(count_out, key) end
  for _, permit in ipairs(redis.call("ZRANGE", PERMITS, 0, -1)) do
    local places = redis.pcall("HGET", tx_key(permit), TX.places)
    count_places(type(places) == "string" and places)
  end
  return counted
end

-- Sets the counters to what is there: after one was found damaged, or a transaction that had moved them.
local function heal_counters()
  local counted = count_all()
  for _, field in ipairs(redis.call("HKEYS", GOV)) do
    if string.find(field, "^[blq]:") then
      redis.call("HSET", GOV, field, counted[field] or 0)
      counted[field] = nil
    end
  end
  for field, actual in pairs(counted) do redis.call("HSET", GOV, field, actual) end
end
