-- What no bell has spoken for: threads, and the tokens of each limit, the reserve left out.
--
-- Expects  bucket, tick
-- Gives    left, probes_left; set_free_threads, has_free_threads, parse_flow_name, limits_name,
--          limits_of_flow, available, speak_for
--
-- `free_threads` is the threads of the pool calls. `left` has what is left of each limit by its name, and
-- under MEDIA the threads of the pool media; `limits_of` has the limits by `limits_name`. Of a limit or route
-- whose breaker is open `probes_left` has how many probes may go now: the reserve of urgent rows adds none.
local left, probes_left
local free_threads, limits_of
local function start_capacity() free_threads, left, probes_left, limits_of = 0, {}, {}, {} end

-- Threads for which no bell is out, of the pools calls and media.
local function set_free_threads(calls, media) free_threads, left[MEDIA] = calls, media end
local function has_free_threads() return free_threads > 0 or left[MEDIA] > 0 end

-- How many names of flows are kept parsed.
local MOST_NAMES = 10000

local function read_bucket(bucket)
  local name, state = bucket[NAME], gov[state_of(bucket)]
  if not read_number(state) and bucket[INTERVAL] > 0 and not is_route(bucket) then
    start_empty(bucket)
    state = gov["c:" .. name]
  end
  local for_permit = number("g:" .. name) > now and 1 or 0
  left[name] = tokens(state, bucket, now + bucket[LEAD]) - number("b:" .. name) - for_permit
  local probe_from = gov["k:" .. name]
  if probe_from then -- its breaker is open: one probe, when that may go
    local may_go = (read_number(probe_from) or now) <= now
    probes_left[name] = (may_go and 1 or 0) - number("b:" .. name)
  end
end

-- What a flow's name, lane:tenant:limits with 8 characters at its end, says. Kept for later calls.
local function parse_flow_name(flow_name)
  local parsed = KEPT.names[flow_name]
  if not parsed then
    if KEPT.named == MOST_NAMES then KEPT.names, KEPT.named = {}, 0 end
    local lane, name = string.sub(flow_name, 1, 1), string.sub(flow_name, 1, -10)
    parsed = {lane = tonumber(lane) or 0, name = name, tenant = string.sub(name, 3),
      limits = string.sub(flow_name, -8), pass = "p:" .. name}
    KEPT.names[flow_name], KEPT.named = parsed, KEPT.named + 1
  end
  return parsed
end

-- What flows of equal limits have in common: the end of their names, unless their tenant got limits of
-- its own later.
local function limits_name(parsed)
  if not gov.capped or gov.capped == "" then return parsed.limits end
  local own = string.find(gov.capped, "/" .. parsed.tenant .. "/", 1, true)
  return own and parsed.tenant .. "/" .. parsed.limits or parsed.limits
end

-- The limits of a flow of which `available` was asked before.
local function limits_of_flow(flow_name) return limits_of[limits_name(parse_flow_name(flow_name))] end

-- How many calls of this flow may still be rung; nothing where no flow of this name is defined.
local function available(flow_name, lane)
  local name = limits_name(parse_flow_name(flow_name))
  if not limits_of[name] then
    local is_defined, flow = pcall(read_flow, flow_name)
    if not is_defined then return nil end
    limits_of[name] = flow.limits
  end
  local limits = limits_of[name]
  local least = pool_of(limits) == MEDIA and left[MEDIA] or free_threads
  for _, bucket in ipairs(limits) do
    local name = bucket[NAME]
    if not left[name] then read_bucket(bucket) end
    least = math.min(least, left[name] + (lane == 0 and bucket[RESERVE] or 0), probes_left[name] or least)
  end
  return least
end

local function speak_for(limits)
  if pool_of(limits) ~= MEDIA then free_threads = free_threads - 1 end
  for _, bucket in ipairs(limits) do
    local name = bucket[NAME]
    left[name] = left[name] - 1
    if probes_left[name] then probes_left[name] = probes_left[name] - 1 end
  end
end
