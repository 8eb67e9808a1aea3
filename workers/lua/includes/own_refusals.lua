-- Whose fault a 429 is, the limit's or the row's: what became of the calls that went after it.
--
-- Expects  evidence, refusal_record, refused_row
-- Gives    plan_refusal, keep_refusal
--
-- A limit refuses whoever comes. A row that is refused waits a little longer than its scope is held, so that
-- others go before it. A row that is refused again is refused for itself where since the time before ENOUGH
-- calls that were let out after a refusal were answered well, and no fewer than rows were refused for the
-- first time, unless two of these have just come in a row: it waits alone, and its scope goes on. From the
-- second time on that counts as an attempt, where nine in ten were answered well. It ends by its attempts or
-- its patience. Where too few were answered well, and no row was refused for the first time since, nobody but
-- rows that were refused before is there: the scope is held, and they end by their patience, unless a whole
-- scope refuses, which OPEN_AFTER rows in a row say. All other refusals hold the scope; they are no attempts
-- and end nothing, nor does any while a breaker is open.
--
-- A row has of its own newest refusal the step, both counts of that time, how often it was refused for
-- itself, and the scope. So has who calls outside of jobs, see release.lua: it has no step, no attempts and
-- no patience.
--
-- While a refusal is open, rows that were refused go behind others (behind_others.lua), which show whose
-- fault it is.
local NINE = 9

-- A call was answered well. That a row was refused is over as well when it is done itself.
local function plan_good(name, key, number)
  local record = read_record(name)
  if not record then return nil end
  must_be("hash", HEALTHY)
  if record.holder == string.sub(key, -8) then return {name = name, over = record} end
  if number <= record.sent then return nil end
  record.good, record.run = record.good + 1, 0
  if record.good - record.seen >= ENOUGH then return {name = name, over = record} end
  return {name = name, record = record}
end

-- How long a refusal holds the scope for which the provider orders no wait: twice as long as the one before,
-- where nothing was answered well since.
local function pause_after(record, verdict, number)
  local pause = verdict.pause_us or 0
  if not record or record.good > record.seen then return pause end
  if number <= record.sent then return math.max(pause, record.pause) end
  local longer = math.min(2 * record.pause, verdict.pause_most_us or 0)
  if longer <= pause then return pause end
  verdict.pause_us, verdict.delay_us = longer, (verdict.delay_us or 0) + longer - pause
  return longer
end

local function plan_429(verdict, scope, key, probe)
  must_be("hash", HEALTHY)
  local name, step, number = REFUSED .. scope, verdict.step or 0, verdict.number or 0
  local own_refusal = redis.call("HGET", tx_key(key), TX.refused)
  local good_before, fresh_before, times = parse_refused(own_refusal, step, scope)
  times = times or 0
  local known = read_record(name)
  local newest, set_back, client, own = unpack(redis.call("HMGET", GOV,
    "sent", "set_back", "k:client", "k:" .. scope))
  local record = known or {run = 0, pause = 0}
  if not known then record.good, record.fresh = read_counts(name) end
  -- The counts may have been lost since.
  local is_again = good_before and good_before <= record.good and fresh_before <= record.fresh
  local good = is_again and record.good - good_before or 0
  local fresh = is_again and record.fresh - fresh_before or 0
  local may_judge = is_again and not (probe or client or own)
  local is_own = may_judge and good >= math.max(ENOUGH, fresh) and record.run <= 1
  local is_left_over = may_judge and not is_own and fresh == 0 and record.run < OPEN_AFTER
  local word
  if not is_own and not is_left_over then verdict.give_up = nil
  else verdict.held_us = verdict.pause_us end -- no send of its own goes earlier
  if is_own then
    verdict.pause_us, verdict.pause_reach = nil, nil
    local counts = times > 0 and good >= NINE * fresh and verdict.give_up and verdict.give_up.attempts
    verdict.attempt = counts and true or nil
    word, times = times == 0 and "APART" or "STILL_APART", times + 1
  else
    record.pause = pause_after(known, verdict, number)
  end
  if not is_own or not known then
    record.sent = math.max(tonumber(newest) or 0, now + (read_number(set_back) or 0))
    record.holder = string.sub(key, -8)
  end
  if not good_before then record.fresh, record.run = record.fresh + 1, record.run + 1 end
  record.seen = record.good
  return {name = name, is_429 = true, word = word, record = record, own = verdict.step
    and string.format("%d %.0f %.0f %d %s", step, record.good, record.fresh, times, scope)}
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
  local over = plan.over or plan.own and ends and plan.record
  if over then
    redis.call("HDEL", EVIDENCE, plan.name)
    redis.call("HDEL", GOV, plan.name)
    redis.call("HSET", HEALTHY, plan.name, string.format("%.0f %.0f", over.good, over.fresh))
  else
    redis.call("HSET", EVIDENCE, plan.name, format_record(plan.record))
    if plan.is_429 then
      local others = string.match(redis.call("HGET", GOV, plan.name) or "", "^%d") or 0
      redis.call("HSET", GOV, plan.name, string.format("%d %.0f", others, now))
    end
  end
  if plan.own then redis.call("HSET", tx_key(holder), TX.refused, plan.own) end
end
