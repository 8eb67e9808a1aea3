-- The breaker of a scope: a route, the limit of an endpoint, or the whole client.
--
-- Expects  wake, bucket
-- Gives    FIRST_PROBE, breaker_key, open_scope, open_breaker, end_breaker, close_breaker,
--          rename_breakers
--
-- throttling.lua and evidence.lua open it, and probes.lua closes it. While it is open gov has "k:" + scope,
-- from when on the next probe may go, and nothing else leaves; the hash breaker:<scope> has the rest. Two
-- scopes that open within TOGETHER open the client in their place. When its hold has ended gov has "d:" +
-- scope, the moment of that: the patience of a row counts no time in which its scope was held.

-- From the moment when it opens to its first probe.
local FIRST_PROBE = 2000000
local TOGETHER = 10000000

local function breaker_key(scope) return base .. "breaker:" .. scope end

-- The scope whose breaker is open for a call of `flow`, the client's before its own, and from when on a probe
-- may go. `client` and `own` are "k:client" and "k:" + its scope of gov.
local function open_scope(flow, client, own)
  if client then return "client", read_number(client) or now end
  if own then return flow.scope, read_number(own) or now end
end

-- Ends what is kept of an open breaker, and lets nothing go.
local function forget_breaker(scope)
  redis.call("HDEL", GOV, "k:" .. scope)
  redis.call("DEL", breaker_key(scope))
end

-- `why` is one sentence. The types of breaker:<scope> and breaker:client are checked.
local function open_breaker(scope, cause, why)
  local client, own, other, other_us = unpack(redis.call("HMGET", GOV,
    "k:client", "k:" .. scope, "opened", "opened_us"))
  if client or own then return end
  redis.call("HSET", GOV, "opened", scope, "opened_us", now)
  local together = other and other ~= scope and now - (read_number(other_us) or 0) < TOGETHER
  if together and redis.call("HEXISTS", GOV, "k:" .. other) == 1 then
    forget_breaker(other)
    scope = "client"
  end
  redis.call("DEL", breaker_key(scope))
  redis.call("HSET", breaker_key(scope), "cause", cause, "why", why, "opened_us", now, "good", 0, "probes", 0,
    "every_us", 2 * FIRST_PROBE, "due_us", now + FIRST_PROBE)
  redis.call("HSET", GOV, "k:" .. scope, now + FIRST_PROBE)
end

-- The hold of a scope has ended.
local function end_breaker(scope)
  forget_breaker(scope)
  redis.call("HSET", GOV, "d:" .. scope, now)
end

-- What waited is paced: its buckets start empty, those of others do not.
local function close_breaker(scope, flow)
  end_breaker(scope)
  need_ring(now)
  for _, bucket in ipairs(flow.limits) do
    local name = bucket[NAME]
    local own = name == scope or scope == "client" and not is_route(bucket)
    if own and bucket[INTERVAL] > 0 then
      local full = full_at(redis.call("HGET", GOV, "c:" .. name), bucket)
      redis.call("HSET", GOV, "c:" .. name, math.max(full, now + bucket[INTERVAL] * bucket[BURST]))
    end
  end
end

-- Each scope `before` is another one, `after`, from now on; that keeps a breaker of its own.
local function rename_breakers(scopes)
  for _, scope in ipairs(scopes) do
    local before, after = scope.before, scope.after
    local probe_from, other, ended = unpack(redis.call("HMGET", GOV,
      "k:" .. before, "k:" .. after, "d:" .. before))
    if ended and before ~= "client" then redis.call("HSET", GOV, "d:" .. after, ended) end
    if probe_from and before ~= "client" then
      if not other then
        local is_kept = redis.call("EXISTS", breaker_key(before)) == 1
        if is_kept then redis.call("RENAME", breaker_key(before), breaker_key(after)) end
        redis.call("HSET", GOV, "k:" .. after, probe_from)
      end
      forget_breaker(before)
    end
  end
end
