-- The probes of an open breaker.
--
-- Expects  wake, breaker
-- Gives    start_probe, miss_probe, end_probe
--
-- The first one goes soon after the breaker opened. The distance to the next one, counted from the start of
-- the one before, doubles up to LONGEST, and at most MOST_OUT are out. A Retry-After moves the next one. So
-- many good answers in a row as CLOSE_AFTER says close the breaker. A probe whose answer proves nothing keeps
-- the distance of its turn. One that was not sent is replaced after REPLACE_AFTER, but not before a moment
-- that the provider ordered: "ordered_us" of breaker:<scope>.
local LONGEST, MOST_OUT, CLOSE_AFTER, REPLACE_AFTER = 30000000, 2, 2, 1000000

local function read_probers(text)
  local probers = {}
  for holder, till in string.gmatch(text or "", "(%S+)=(%d+)") do
    if tonumber(till) > now then probers[holder] = tonumber(till) end
  end
  return probers
end

-- The next probe goes at `due`, and not while MOST_OUT are out.
local function schedule_probe(scope, due, probers)
  local texts, first = {}, nil
  for holder, till in pairs(probers) do
    texts[#texts + 1] = holder .. "=" .. string.format("%.0f", till)
    first = math.min(first or till, till)
  end
  redis.call("HSET", breaker_key(scope), "due_us", due, "probers", table.concat(texts, " "))
  local probe_from = #texts < MOST_OUT and due or math.max(due, first)
  redis.call("HSET", GOV, "k:" .. scope, probe_from)
  need_ring(probe_from)
end

-- A probe goes now: by `holder`, which is waited for until `till`. Returns how many before it, in a row,
-- were answered well.
local function start_probe(scope, holder, till)
  local every, probers, probes, good = unpack(redis.call("HMGET", breaker_key(scope),
    "every_us", "probers", "probes", "good"))
  every, probers = tonumber(every) or 2 * FIRST_PROBE, read_probers(probers)
  if holder then probers[holder] = till end
  redis.call("HSET", breaker_key(scope), "every_us", math.min(2 * every, LONGEST),
    "probes", (tonumber(probes) or 0) + 1)
  schedule_probe(scope, now + every, probers)
  return tonumber(good) or 0
end

-- A probe could not even begin: the next one has its turn.
local function miss_probe(scope)
  start_probe(scope)
  redis.call("HSET", breaker_key(scope), "good", 0)
end

-- A probe of this scope came back; `answer` is as feedback.lua has it. Returns whether the breaker is closed
-- now, and what its cause was.
local function end_probe(scope, holder, answer, flow)
  local came_to = answer.came_to
  local due, probers, good, cause, ordered = unpack(redis.call("HMGET", breaker_key(scope),
    "due_us", "probers", "good", "cause", "ordered_us"))
  probers = read_probers(probers)
  if not probers[holder] then return false end
  probers[holder], due, good = nil, tonumber(due) or now, tonumber(good) or 0
  ordered = math.max(tonumber(ordered) or 0, answer.retry_after_us and now + answer.retry_after_us or 0)
  if came_to == "good" and good + 1 >= CLOSE_AFTER then
    close_breaker(scope, flow)
    return true, cause
  elseif came_to == "good" then
    redis.call("HSET", breaker_key(scope), "good", good + 1, "every_us", 2 * FIRST_PROBE)
    due = now
  elseif came_to == "bad" or came_to == "refused" then
    redis.call("HSET", breaker_key(scope), "good", 0, "why", answer.error or "")
  elseif came_to == "unsent" then
    due = math.min(due, now + REPLACE_AFTER)
  end
  if answer.retry_after_us then redis.call("HSET", breaker_key(scope), "ordered_us", ordered) end
  schedule_probe(scope, math.max(due, ordered), probers)
  return false
end
