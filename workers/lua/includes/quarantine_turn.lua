-- The turn of the quarantine: one of it goes before all others.
--
-- Expects  quarantine, tick, capacity, bells
-- Gives    MOST_PASSED, ring_quarantine

-- Most transactions of the quarantine that are passed by. One that must wait may wait for a worker of its
-- pool that nobody starts, with as many more as its dead ones had threads.
local MOST_PASSED = 256

-- Of the quarantine, under which workers died, one goes at a time: one bad row condemns no neighbours. One
-- that must wait is passed by others.
local function ring_quarantine(deadline)
  if gov.quarantined then return end
  local waiting = redis.call("ZRANGEBYSCORE", QUARANTINE, "-inf", now, "LIMIT", 0, MOST_PASSED)
  for _, key in ipairs(waiting) do
    local flow_name, flow = try_flow(key)
    if not flow then
      redis.call("ZREM", QUARANTINE, key)
      redis.call("ZADD", DEADLINES, now, key) -- the sweep decides what becomes of it
    elseif available(flow_name, flow.lane) > 0 then
      redis.call("ZREM", QUARANTINE, key)
      if ring_bell(key, flow.limits, deadline) then
        set_value("quarantined", key)
        return
      end
    end
  end
end
