-- What an answer says beside its result, obeyed by all: a pause, what is left of the quota, and whether the
-- breaker opens or closes.
--
-- Expects  seconds, bucket, breaker, pause
-- Gives    came_to, plan_pause, obey
--
-- An answer is a table: came_to "answered", "refused" (a 429), "none" (no answer, or one of unknown
-- outcome) or "unsent"; error, a sentence; and where they are known pause_us with pause_reach,
-- and remaining with reset_us, which are what the provider's headers leave, and until when.

-- How the call of a verdict (see settle.lua) ended.
local function came_to(verdict)
  if verdict.throttled then return "refused" end
  if not verdict.status then return verdict.outcome == "not_executed" and "unsent" or "none" end
  return verdict.outcome == "unknown" and "none" or "answered"
end

-- Sets pause_us and its reason, why, to what follows from the headers, where the answer itself asks for no
-- pause. Called before the first write.
local function plan_pause(answer)
  if answer.remaining and not answer.pause_us then
    answer.pause_us, answer.why = pause_of_quota(answer.remaining, answer.reset_us)
  end
end

-- `holder` is the key or permit of the call; a probe settles what becomes of the breaker.
local function obey(answer, flow, holder, is_probe)
  if answer.remaining then keep_quota(flow, answer.remaining, answer.reset_us) end
  if (answer.pause_us or 0) > 0 then
    pause_flow(flow, answer.pause_us, answer.why or answer.error or "", answer.pause_reach)
  end
  if is_probe then record_probe(holder, answer.came_to, flow.limits)
  elseif answer.came_to == "refused" then count_refusal()
  elseif answer.came_to == "unsent" and is_governed(flow.limits) then count("u:") end
end
