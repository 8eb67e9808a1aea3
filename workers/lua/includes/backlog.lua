-- The way back to the backlog, and the next bell of a chain.
--
-- Expects  wake, bucket, quarantine
-- Gives    check_requeue_types, requeue, may_ring; LAST_LANE, MOST_BEFORE, turns_before
--
-- The share of a lane: gov counts in "s:" + lane + ":" + limit, for lanes in which something waits, the
-- bells that rang in lanes before it since one of its own. At MOST_BEFORE the next token of the limit is the
-- lane's (includes/lanes.lua), so each lane has one in twenty. A route, which is one of a limit, has none.
local LAST_LANE, MOST_BEFORE = 2, 19
local function turns_before(lane, bucket) return "s:" .. lane .. ":" .. bucket[NAME] end

-- Checks the types that `requeue` needs, before the first write.
local function check_requeue_types(flow)
  must_be("zset", DEADLINES)
  must_be("zset", RETRIES)
  must_be("zset", QUARANTINE)
  must_be("set", ACTIVE)
  must_be("zset", backlog_key(flow) .. ":due")
end

-- Back to the backlog from wherever it was, to go again at `due`; with crashes to the quarantine.
local function requeue(key, flow, lane, due, crashes)
  redis.call("ZREM", DEADLINES, key)
  redis.call("ZREM", RETRIES, key)
  if (tonumber(crashes) or 0) > 0 then
    redis.call("ZADD", QUARANTINE, due, key)
    leave_quarantine(key)
  else
    redis.call("ZADD", backlog_key(flow) .. ":due", due, key)
    redis.call("SADD", ACTIVE, flow)
    add_to(GOV, "q:" .. lane, 1)
  end
  redis.call("HSET", tx_key(key), TX.state, "w")
  need_ring(due)
end

-- Whether the next step of a transaction may be rung at once: the same threads do it, by the next link of
-- the same message; nobody of its lane or before it waits, no later lane has its turn, no breaker is open, no
-- permit is asked for, and no bell has spoken for the tokens. Returns, too, the counts of later lanes that
-- this bell passes over.
local function may_ring(flow, from)
  if pool_of(flow.limits) ~= pool_of(from.limits) then return false end
  local fields, lanes = {unpack(flow.fields)}, #flow.fields -- a copy: it grows
  for lane = 0, LAST_LANE do fields[lanes + 1 + lane] = "q:" .. lane end
  local more = #fields
  fields[more + 1], fields[more + 2], fields[more + 3] = "k:client", "k:" .. flow.scope, "g:client"
  local states = redis.call("HMGET", GOV, unpack(fields))
  local asked_for = (read_number(states[more + 3]) or 0) > now
  if states[more + 1] or states[more + 2] or asked_for then return false end
  local passed = {}
  for lane = 0, LAST_LANE do
    local waits = (read_number(states[lanes + 1 + lane]) or 0) > 0
    if waits and lane <= flow.lane then return false end
    for _, bucket in ipairs(waits and flow.limits or {}) do
      if not is_route(bucket) then passed[#passed + 1] = turns_before(lane, bucket) end
    end
  end
  for i, bucket in ipairs(flow.limits) do
    local free = tokens(states[2 * i - 1], bucket, now, flow.lane)
    if free - (read_number(states[2 * i]) or 0) < 1 then return false end
  end
  for _, turns in ipairs(passed[1] and redis.call("HMGET", GOV, unpack(passed)) or passed) do
    if (read_number(turns) or 0) >= MOST_BEFORE then return false end
  end
  return true, passed
end
