-- What an answer says beside its result, obeyed by all: a pause, what is left of the quota, and whether a
-- breaker opens or closes.
--
-- Expects  seconds, bucket, breaker, probes, throttling, evidence, refusal_record, own_refusals, pause
-- Gives    read_verdict, concerns_others, plan_feedback, obey
--
-- An answer is a table: came_to "good", "bad" (the provider failed, see Health in workers/answer/outcome.py),
-- "neutral", "refused" (a 429) or "unsent"; of_token, whether it is a 401; is_first, whether its row was
-- never sent before; error, a sentence; and where they are known number and step of its grant,
-- retry_after_us, pause_us with pause_reach, and remaining with reset_us, which are what the provider's
-- headers leave, and until when. The answer to a permit may have a caller, whose 429s are judged as a row's.

local function read_came_to(verdict)
  if verdict.throttled then return "refused" end
  if verdict.health then return verdict.health end
  if verdict.status or verdict.tag == "advance" then return "good" end
  return verdict.outcome == "not_executed" and "unsent" or "neutral"
end

-- The verdict of settle.lua, of whose arguments it is, as a table, which is an answer, too.
local function read_verdict(arguments)
  local verdict = cjson.decode(arguments[5])
  verdict.came_to = read_came_to(verdict)
  verdict.step, verdict.number = tonumber(arguments[3]), tonumber(arguments[7])
  return verdict
end

-- Whether it says anything to other calls, or depends on what these were answered.
local function concerns_others(verdict)
  return verdict.came_to ~= "good" or verdict.pause_us or verdict.remaining or verdict.give_up
end

-- Reads what follows from an answer, and checks the types that `obey` needs, before the first write. Sets
-- its evidence and refusal, and pause_us with the reason, why, where the headers ask for a pause. `holder`
-- is the key or permit of the call; `probe` is the scope of which its call was a probe, if it was one.
local function plan_feedback(answer, flow, holder, probe)
  answer.refusal = plan_refusal(answer, flow.scope, answer.caller or holder, probe)
  if answer.remaining and not answer.pause_us then
    answer.pause_us, answer.why = pause_of_quota(answer.remaining, answer.reset_us)
  end
  if probe then must_be("hash", breaker_key(probe)) end
  if answer.came_to == "refused" then must_be("hash", breaker_key("client")) end
  local is_good = answer.came_to == "good"
  if is_good or answer.came_to == "bad" then
    local scope = answer.of_token and not is_good and TOKEN or flow.scope
    answer.evidence = plan_evidence(scope, holder, answer)
  end
  if is_good and is_governed(flow.limits) then
    answer.token_evidence = plan_evidence(TOKEN, holder, answer)
  end
end

local function obey(answer, flow, holder, probe)
  if answer.remaining then keep_quota(flow, answer.remaining, answer.reset_us) end
  if (answer.pause_us or 0) > 0 then
    pause_flow(flow, answer.pause_us, answer.why or answer.error or "", answer.pause_reach)
  end
  if answer.refusal then keep_refusal(answer.refusal, answer.caller or holder, answer.state) end
  if answer.evidence then keep_evidence(answer.evidence) end
  if answer.token_evidence then keep_evidence(answer.token_evidence) end
  if probe then
    local is_closed, cause = end_probe(probe, holder, answer, flow)
    if is_closed and cause == "throttled" then forget_refusals() end
  elseif answer.came_to == "refused" then count_refusal(flow)
  elseif answer.came_to == "unsent" and is_governed(flow.limits) then count("u:") end
end
