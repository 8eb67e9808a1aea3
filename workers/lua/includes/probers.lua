-- Who is let through as a probe while a breaker is open.
--
-- Expects  tick, capacity, lookups, damage, guarded
-- Gives    open_breaker_of, next_prober
--
-- Turns are taken by a row in doubt, which goes again, and one that never went: of those in doubt the one
-- whose turn was longest ago, so that a row that always fails costs one turn. A row that nothing guards would
-- end `unknown` by a bad answer: it probes only when no other one waits, of any tenant and in any lane.

-- So many of a backlog are looked at.
local MOST_CANDIDATES = 128

-- The scope whose breaker is open for the calls of a backlog; nothing where none is, or they are local steps.
local function open_breaker_of(backlog)
  if not is_governed(backlog.limits) then return nil end
  return gov["k:client"] and "client" or gov["k:" .. backlog.scope] and backlog.scope
end

-- The first of these that is in doubt, and the first that never went, or that cannot be read: its bell leaves
-- that to the sweep.
local function first_of(candidates, may_be_unguarded)
  local in_doubt, fresh
  for _, key in ipairs(candidates) do
    local is_whole, tx = pcall(read_tx, key, "guards step attempts maybe_executed")
    if not is_whole or not tx.guards or not tonumber(tx.step) then fresh = fresh or key
    elseif may_be_unguarded or guard_of(tx.guards, tx.step) ~= "n" then
      if tx.maybe_executed == "1" or (tonumber(tx.attempts) or 0) > 0 then in_doubt = in_doubt or key
      else fresh = fresh or key end
    end
  end
  return in_doubt, fresh
end

-- Takes a probe out of a backlog; nothing when none may be one.
local function take_prober(backlog, scope, may_be_unguarded)
  local name, last = backlog.key, MOST_CANDIDATES
  local due = redis.call("ZRANGEBYSCORE", name .. ":due", "-inf", now, "LIMIT", 0, last)
  local in_doubt, fresh = first_of(due, may_be_unguarded)
  if not fresh then
    local new = redis.call("LRANGE", name, 0, last - 1)
    fresh = select(2, first_of(new, may_be_unguarded))
  end
  clear_way("hash", "breaker:" .. scope)
  local probes = tonumber(redis.call("HGET", base .. "breaker:" .. scope, "probes")) or 0
  local key = in_doubt and (probes % 2 == 0 or not fresh) and in_doubt or fresh
  if not key then return nil end
  if redis.call("ZREM", name .. ":due", key) == 1 then backlog.due = backlog.due - 1
  else
    redis.call("LREM", name, 1, key)
    backlog.new = backlog.new - 1
  end
  return key
end

-- The next probe out of these backlogs, and its limits; nil when no breaker of theirs is open, or no probe
-- may go now.
local function next_prober(backlogs, lane)
  if count_breakers() == 0 then return nil end
  for _, may_be_unguarded in ipairs({false, true}) do
    for _, backlog in ipairs(backlogs) do
      local scope = open_breaker_of(backlog)
      local may_go = scope and backlog.due + backlog.new > 0 and available(backlog.flow_name, lane) > 0
      if may_go and not (may_be_unguarded and is_guarded_waiting(scope)) then
        local key = take_prober(backlog, scope, may_be_unguarded)
        if key then return key, backlog.limits end
      end
    end
  end
end
