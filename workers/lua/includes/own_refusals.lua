-- Whose fault a 429 is, the limit's or the row's: what became of the calls that went after it.
--
-- Expects  evidence
-- Gives    plan_refusal, keep_refusal
--
-- A limit refuses whoever comes. A row that is refused waits a little longer than its scope is held, so that
-- others go before it. Where ENOUGH calls that were granted after a refusal were answered well, that refusal
-- is over. A row that was refused before, and is refused again when all refusals of its scope are over, is
-- refused for itself: it waits alone, and its scope goes on. From the second time on that counts as an
-- attempt, if no other row was refused since the time before. It ends by its attempts or its patience. A lone
-- row, between whose refusals no other row was refused, holds its scope, and ends by its patience. All other
-- refusals hold the scope; they are no attempts and end nothing, nor does any while a breaker is open.
--
-- The hash evidence has under REFUSED + scope the newest refusal that is not over: number of the newest grant
-- at that time, calls that were granted later and answered well, how long it held the scope, and the end of
-- the row's key. The hash healthy has there the first of these of the newest refusal that is over. A row has
-- of its own newest refusal the step, that number, how often it was refused for itself, and the scope.
local ENOUGH = 8
-- No limit and no route has a name that begins so.
local REFUSED = "429:"

local function read_refusal(name)
  local sent, good, pause, holder = string.match(redis.call("HGET", EVIDENCE, name) or "",
    "^(%d+) (%d+) (%d+) (%S+)$")
  return sent and {sent = tonumber(sent), good = tonumber(good), pause = tonumber(pause), holder = holder}
end

local function format_refusal(sent, good, pause, holder)
  return string.format("%.0f %d %.0f %s", sent, good, pause, holder)
end

-- A call was answered well. That a row was refused is over as well when it is done itself.
local function plan_good(name, key, number)
  local refusal = read_refusal(name)
  if not refusal then return nil end
  must_be("hash", HEALTHY)
  if refusal.holder == string.sub(key, -8) then return {name = name} end
  if number <= refusal.sent then return nil end
  local good = refusal.good + 1
  if good >= ENOUGH then return {name = name, over = refusal.sent} end
  return {name = name, text = format_refusal(refusal.sent, good, refusal.pause, refusal.holder)}
end

-- How long a refusal holds the scope for which the provider orders no wait: twice as long as the one before,
-- where nothing was answered well since.
local function pause_after(refusal, verdict, number)
  local pause = verdict.pause_us or 0
  if not refusal or refusal.good > 0 then return pause end
  if number <= refusal.sent then return math.max(pause, refusal.pause) end
  local longer = math.min(2 * refusal.pause, verdict.pause_most_us or 0)
  if longer <= pause then return pause end
  verdict.pause_us, verdict.delay_us = longer, (verdict.delay_us or 0) + longer - pause
  return longer
end

-- What the row knows of its newest refusal in this step and scope: the number, and how often it was refused
-- for itself.
local function read_own(key, step, scope)
  local text = redis.call("HGET", tx_key(key), TX.refused) or ""
  local own_step, sent, times, own_scope = string.match(text, "^(%d+) (%d+) (%d+) (.*)$")
  if tonumber(own_step) ~= step or own_scope ~= scope then return nil, 0 end
  return tonumber(sent), tonumber(times)
end

local function plan_429(verdict, scope, key, probe)
  local name, step, number = REFUSED .. scope, verdict.step or 0, verdict.number or 0
  local before, times = read_own(key, step, scope)
  local refusal, over = read_refusal(name), tonumber(redis.call("HGET", HEALTHY, name))
  local newest, client, own = unpack(redis.call("HMGET", GOV, "sent", "k:client", "k:" .. scope))
  local may_judge = before and not (probe or client or own)
  local is_own = may_judge and not refusal and (over or -1) >= before
  local is_lone = may_judge and refusal and refusal.sent == before
  local word, pause = nil, 0
  if not is_own and not is_lone then verdict.give_up = nil end
  if is_own or is_lone then -- never earlier than ordered
    verdict.retry_after_us = math.max(verdict.retry_after_us or 0, verdict.pause_us or 0)
  end
  if is_own then
    verdict.pause_us, verdict.pause_reach = nil, nil
    local counts = times > 0 and over == before and verdict.give_up and verdict.give_up.attempts
    verdict.attempt = counts and true or nil
    word, times = times == 0 and "APART" or "STILL_APART", times + 1
  else
    pause = pause_after(refusal, verdict, number)
  end
  newest = math.max(tonumber(newest) or 0, 0)
  return {name = name, word = word, text = format_refusal(newest, 0, pause, string.sub(key, -8)),
    own = verdict.step and string.format("%d %.0f %d %s", step, newest, times, scope)}
end

-- Reads what follows from an answer to `holder`, before the first write, and changes the answer by it:
-- whether it holds the scope, counts as an attempt, and may end its row. `answer` is as feedback.lua has it;
-- `probe` is the scope of which the call was a probe, if it was one. Returns what is kept, and of a refusal
-- of the row alone the word of settle; nothing where no refusal is known.
local function plan_refusal(answer, scope, holder, probe)
  if answer.came_to == "good" then return plan_good(REFUSED .. scope, holder, answer.number or 0) end
  if answer.came_to == "refused" then return plan_429(answer, scope, holder, probe) end
end

-- `ends` says that its row ends by it: nobody waits for what becomes of that.
local function keep_refusal(plan, holder, ends)
  if plan.text and not (plan.own and ends) then redis.call("HSET", EVIDENCE, plan.name, plan.text)
  else redis.call("HDEL", EVIDENCE, plan.name) end
  if plan.over then redis.call("HSET", HEALTHY, plan.name, string.format("%.0f", plan.over)) end
  if plan.own then redis.call("HSET", tx_key(holder), TX.refused, plan.own) end
end
