-- Says that a ring is needed, and wakes the dispatchers for it.
--
-- Expects  the prelude; gov is a hash
-- Gives    need_ring
--
-- The channel is <namespace>:wake, and a message the client's name. One may be lost: dispatchers also look by
-- themselves what stands in gov.next (orchestration/dispatch/looks.py).

-- From `moment` on something may go: notes in gov.next when a ring is needed, and wakes the dispatchers.
-- Nobody is woken for a ring that comes anyhow, or within SOON us.
local SOON = 25000
local function need_ring(moment)
  local next_ring = read_number(redis.call("HGET", GOV, "next"))
  if next_ring and next_ring <= math.max(moment, now + SOON) then return end
  redis.call("HSET", GOV, "next", moment)
  local namespace, client = string.match(base, "^(.*):{(.*)}:$")
  -- A user who may not publish wakes nobody: then who rings finds the work a little later.
  if namespace then redis.pcall("PUBLISH", namespace .. ":wake", client) end
end
