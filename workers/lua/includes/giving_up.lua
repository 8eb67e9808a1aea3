-- When a call that is tried again ends in its place.
--
-- Expects  evidence
-- Gives    plan_attempts, keep_attempts

-- Whether a breaker holds the scope of a flow, and when the newest hold of it ended, 0 = it was never held.
local function read_hold(flow)
  local client, own, client_ended, own_ended = unpack(redis.call("HMGET", GOV,
    "k:client", "k:" .. flow.scope, "d:client", "d:" .. flow.scope))
  return client or own, math.max(tonumber(client_ended) or 0, tonumber(own_ended) or 0)
end

-- Counts the attempts of a step after this answer, in eighths, says since when it goes on so, and when it is
-- due again; returns the three. When that is long enough by verdict.give_up, the verdict gets the final
-- state. While a breaker holds its scope nothing ends, and patience begins anew when that closes: an outage
-- is not the row's fault. Nor is what it waits for others, in a backlog, a pause or another row's hold: past
-- the moment at which it was due, no more than TURN counts. The last send before the end comes no later than
-- patience lasts, unless the provider ordered a longer wait; it comes from the backlog, for the countdown of
-- Celery's is the longer one.
local TURN = 60000000
local function plan_attempts(verdict, flow, counted, since, due)
  counted = tonumber(counted or 0)
  if verdict.attempt then
    counted = counted + (verdict.came_to == "bad" and verdict.evidence.weight or ATTEMPT)
  end
  if verdict.tag ~= "retry" and verdict.tag ~= "requeue" then return counted, since end
  local rule = verdict.give_up
  since, due = tonumber(since), tonumber(due)
  if since and due then since = since + math.max(0, now - due - TURN) end
  local function goes_on()
    local delay = verdict.delay_us or 0
    if since and verdict.throttled and not rule then since = since + delay end -- it waits for its scope
    return counted, since, since and now + delay
  end
  if not rule then return goes_on() end
  since = since or now
  local is_spent = rule.attempts and counted > rule.attempts * ATTEMPT
  local delay, ordered = verdict.delay_us or 0, verdict.retry_after_us or 0
  local function left() return since + rule.patience_us - now end
  if not is_spent and left() > 0 and delay <= math.max(left(), ordered) then return goes_on() end
  local is_held, ended = read_hold(flow)
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
local function keep_attempts(key, count, since, due, goes_on, write)
  if goes_on then redis.call("HDEL", tx_key(key), TX.counted, TX.first_bad_us, TX.retry_due_us)
  else
    write(TX.counted, count > 0 and count)
    write(TX.first_bad_us, since)
    write(TX.retry_due_us, due)
  end
end
