-- When a call that is tried again ends in its place.
--
-- Expects  evidence, lookups
-- Gives    plan_attempts, keep_attempts

-- Whether a breaker holds a scope of the step, and when the newest hold of one ended, 0 = there was none. A
-- step that is looked up has two flows: that its send is held is as good a reason to go on.
local function read_hold(flow, other_name)
  local is_known, other = pcall(read_flow, other_name)
  local scopes, is_held, ended = {"client", flow.scope, is_known and other.scope or nil}, false, 0
  for _, scope in ipairs(scopes) do
    local open, closed_us = unpack(redis.call("HMGET", GOV, "k:" .. scope, "d:" .. scope))
    is_held, ended = is_held or open, math.max(ended, read_number(closed_us) or 0)
  end
  return is_held, ended
end

-- Counts the attempts of a step after this answer, in eighths, says since when it goes on so, and from
-- when on it waits for others; returns the three. When that is long enough by verdict.give_up, the
-- verdict gets the final state. While a breaker holds its scope nothing ends, and patience begins anew
-- when that closes: an outage is not the row's fault. Nor is what it waits for others, in a backlog, a
-- pause or another row's hold: from `waits_from` on, when its own wait is over, no more than TURN counts.
-- Of a longer wait that a 429 orders TURN counts too, and nothing of one after a 429 that is its limit's.
-- The last send before the end comes no later than patience lasts, unless the provider ordered a longer
-- wait; it comes from the backlog, for the countdown of Celery's is the longer one.
local TURN = 60000000
local function plan_attempts(verdict, flow, flows, counted, since, waits_from)
  counted = tonumber(counted or 0)
  if verdict.attempt then
    counted = counted + (verdict.came_to == "bad" and verdict.evidence.weight or ATTEMPT)
  end
  if verdict.tag ~= "retry" and verdict.tag ~= "requeue" then return counted, since end
  local rule = verdict.give_up
  since, waits_from = read_number(since), read_number(waits_from)
  if since and waits_from then since = since + math.max(0, now - waits_from - TURN) end
  local function goes_on()
    if not since then return counted end
    local from = now + (verdict.delay_us or 0)
    if verdict.throttled and not rule then from = now - TURN
    elseif verdict.throttled and (verdict.retry_after_us or 0) > TURN then from = now end
    return counted, since, from
  end
  if not rule then return goes_on() end
  since = since or now
  local is_spent = rule.attempts and counted > rule.attempts * ATTEMPT
  local delay, ordered = verdict.delay_us or 0, math.max(verdict.retry_after_us or 0, verdict.held_us or 0)
  local function left() return since + rule.patience_us - now end
  if not is_spent and left() > 0 and delay <= math.max(left(), ordered) then return goes_on() end
  local is_held, ended = read_hold(flow, other_flow_of(flows, verdict.step))
  since = math.max(since, ended)
  if is_held or verdict.evidence and verdict.evidence.fails then return goes_on() end
  if is_spent or left() <= 0 then
    if not is_spent then
      verdict.error = string.format("%s; so it went for %.0f s", verdict.error or "", (now - since) / 1000000)
    end
    verdict.state = rule.state
  elseif delay > math.max(left(), ordered) then
    verdict.tag, verdict.delay_us = "requeue", math.max(left(), ordered)
  end
  return goes_on()
end

-- Keeps all three; a call that was never sent has none.
local function keep_attempts(key, count, since, waits_from, goes_on, write)
  if goes_on then redis.call("HDEL", tx_key(key), TX.counted, TX.first_bad_us, TX.waits_from_us)
  else
    write(TX.counted, count > 0 and count)
    write(TX.first_bad_us, since)
    write(TX.waits_from_us, waits_from)
  end
end
