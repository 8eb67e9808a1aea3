-- Whose matter it is that no connection came about: the provider's, or that of the one process whose way is
-- broken.
--
-- Expects  the prelude
-- Gives    UNCONNECTED, fails_alone, keep_unconnected
--
-- It is the matter of a process while another one lives that rings for calls and can connect. Where all fail
-- it is an outage, and so it is of a process that is alone.
--
-- The hash unconnected has of each process when it failed to connect last, if it had failed for FAILING; who
-- connects again leaves it. What is older than LATELY says nothing any more.
local FAILING, LATELY, KEPT_S = 250000, 30000000, 60
local UNCONNECTED
local function start_ways() UNCONNECTED = base .. "unconnected" end

-- The processes that ring for calls just now: what a worker's name has behind its last stroke.
local function list_ringing()
  local fields, ringing = redis.call("HGETALL", GOV), {}
  for i = 1, #fields, 2 do
    local process = string.match(fields[i], "^w:.-([^/]*)$")
    local till = process and tonumber(string.match(fields[i + 1], "^%d+ (%d+)$"))
    if till and till > now then ringing[#ringing + 1] = process end
  end
  return ringing
end

-- Whether others can connect while this process cannot.
local function fails_alone(process)
  for _, other in ipairs(list_ringing()) do
    local failed_us = other ~= process and (tonumber(redis.call("HGET", UNCONNECTED, other)) or 0)
    if failed_us and math.abs(now - failed_us) > LATELY then return true end
  end
  return false
end

-- The type of unconnected is checked.
local function keep_unconnected(process, failing_us)
  if failing_us < FAILING then return end
  redis.call("HSET", UNCONNECTED, process, now)
  redis.call("EXPIRE", UNCONNECTED, KEPT_S)
end
