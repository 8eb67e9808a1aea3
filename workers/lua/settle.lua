#!lua flags=allow-oom
-- Records what a grant came to, moves the cells, and decides the next bell.
--
-- KEYS[1]   prefix of the client
-- ARGV[1]   now_us       "" or an integer (tests)
-- ARGV[2]   key          idempotency key of the transaction
-- ARGV[3]   step         1-based
-- ARGV[4]   fence        as given to admit
-- ARGV[5]   verdict      "NEXT" | "AGAIN" | "END"
-- ARGV[6]   outcome      "executed" | "not_executed" | "unknown"; AGAIN with the first: one part of the
--                        step is done, or one poll
-- ARGV[7]   attempt      1 when this was an attempt, else 0
-- ARGV[8]   throttled    1 when it was a 429, else 0
-- ARGV[9]   status       HTTP status, "" when there was none
-- ARGV[10]  pause_us     how long nothing may leave for what was refused, 0 = no pause
-- ARGV[11]  text         NEXT: the answer to keep for later steps, "" = none; else the error, "" = none
-- ARGV[12]  provider_id  what the provider calls the result, "" = unknown
-- ARGV[13]  correlation  correlation id of the answer, "" = none
-- ARGV[14]  delay_us     AGAIN: backoff; ignored else
-- ARGV[15]  how          AGAIN: "retry" = Celery's countdown, "line", "back" = the line, to do the step
--                        before once more; END: the final state
-- ARGV[16]  grace_us     how long a bell may stay unanswered
-- ARGV[17]  wide         1 = the pause is for the whole client, 0 = for the flow's scope, which other
--                        refusals may widen, 2 = for the scope alone
-- ARGV[18]  remaining    calls that the provider's headers leave, "" = they say nothing
-- ARGV[19]  reset_us     from now until they leave more
-- ARGV[20]  memo         what the next call of the step must know, "=" = what it knew before
-- Parts     seconds, cell, breaker, pause, line, ending, looking, restored, attempts, next
-- Reads     tx:<key>, flows, gov; writes gov, tx:<key>, touch, retries, attempts, the line or the job
-- Returns   "RING"  the Celery chain goes on: its next link is a bell that is counted
--           "LINE"  the chain stops, the pacer will ring
--           "RETRY" publish Task.retry: the countdown is known to the ledger
--           "END"   the transaction has ended
--           "STALE" this fence settles nothing: already settled, taken over, or never admitted
-- Cost      O(limits), 6 to 12 commands; 6 for the usual end
local key, step, verdict, text, how = ARGV[2], tonumber(ARGV[3]), ARGV[5], ARGV[11], ARGV[15]
local name, throttled = tx_key(key), ARGV[8] == "1"
local tx = redis.call("HMGET", name,
  "s", "k", "f", "fl", "n", "j", "r", "cr", "an", "at", "th", "cc", "pb", "m", "ids", "b", "g", "pt", "gn")
if tx[1] ~= "s" or tonumber(tx[2]) ~= step or tx[3] ~= ARGV[4] then return "STALE" end

-- Everything is looked at before the first write.
local known, back, part, lost = tx[14] or "", how == "back", verdict == "AGAIN" and ARGV[6] == "executed", nil
local goes_on = part or back or verdict == "NEXT" and step < tonumber(tx[5])
local next_step = goes_on and not part and (back and step - 1 or step + 1) or step
local memo = verdict == "NEXT" and "" or ARGV[20] == "=" and known or ARGV[20]
local flows = verdict ~= "NEXT" and looks(memo) ~= looks(known) and changed_over(tx[4], step) or tx[4]
if goes_on and tx[16] then flows, memo, lost = maybe_sent(tx[17], flows, next_step, memo) end
local state = verdict == "END" and how or lost and "unknown" or verdict == "NEXT" and not goes_on and "succeeded"
local ends = state and ending(key, tx[6], state, tonumber(tx[7] or 1), tx[8])
local id, next_id = flow_of(tx[4], step), flow_of(flows, next_step)
local pause, why, left = tonumber(ARGV[10]), text, tonumber(ARGV[18])
if left and pause == 0 then pause, why = pause_of(left, tonumber(ARGV[19])) end
local flow = (pause > 0 or left or tx[13] or ARGV[9] == "" or not ends) and read_flow(id)
if flow or throttled or tx[12] then redis.call("HLEN", GOV) end
if throttled then must_be("hash", job_key(tx[6])) end
if not ends then may_line(next_id) end
local told = ARGV[7] == "1" or ARGV[6] == "unknown" or looks(known) or tonumber(tx[10] or 0) > 0 or ends and ends.dead
if told then may_tell() end

if left then keep_told(flow, left, tonumber(ARGV[19])) end
if pause > 0 then pause_flow(flow, pause, why, ARGV[17] == "1", ARGV[17] == "2") end
if tx[13] then
  local heard = ARGV[9] ~= "" and ARGV[6] ~= "unknown"
  probed(key, throttled and "refused" or heard and "answered" or "none", flow.limits)
elseif throttled then refused()
elseif ARGV[6] == "not_executed" and ARGV[9] == "" and is_governed(flow.limits) then count("u:") end
if tx[12] then free_slots(tx[12]) end
if tx[12] or tx[13] then redis.call("HDEL", name, "cc", "pb") end
if throttled then redis.call("HINCRBY", job_key(tx[6]), "throttled", 1) end

if told then
  tell(key, tx[6], step, tx[18], known, ARGV[6], ARGV[9], ARGV[13], verdict == "NEXT" and "" or text)
end
local writes = {"k", next_step, "st", ARGV[9],
  "at", goes_on and 0 or tonumber(tx[10] or 0) + tonumber(ARGV[7])}
local function also(field, value) writes[#writes + 1], writes[#writes + 2] = field, value end
local function told_of(field, value) if value ~= "" then also(field, value) end end
if ARGV[6] == "unknown" then also("u", 1)
elseif goes_on then also("u", tx[16] and 1 or 0)
elseif looks(known) and not looks(memo) then also("u", 0) end -- it is known now
if part or tx[18] and next_step ~= step then also("pt", part and tonumber(tx[18] or 0) + 1 or 0) end
if memo ~= known then also("m", memo) end
if goes_on then begin_next(key, tx[8], tx[19], also) end
if flows ~= tx[4] then also("fl", flows) end
if throttled then also("th", tonumber(tx[11] or 0) + 1) end
told_of("id", ARGV[12])
told_of("co", ARGV[13])
if verdict ~= "NEXT" or lost then told_of("e", lost or text) end
if verdict == "NEXT" and text ~= "" then also("an", (tx[9] and tx[9] .. "\n" or "") .. text) end -- one line an answer
if verdict == "NEXT" and tx[5] ~= "1" then also("ids", first_lines(tx[15], step - 1) .. ARGV[12]) end -- one a step

if state ~= "succeeded" and guard_of(tx[17], step) ~= "r" and not looks(known) then also("t2", now) end
if ends then
  finish(key, ends, verdict == "END" and text or lost or "", writes)
  return "END"
end

redis.call("HSET", name, unpack(writes))
if verdict == "AGAIN" then
  local due = now + tonumber(ARGV[14])
  local crashes = goes_on and 0 or tonumber(tx[8] or 0)
  if how ~= "retry" or crashes > 0 then
    to_line(key, next_id, flow.lane, due, crashes)
    return "LINE"
  end
  redis.call("ZADD", RETRIES, due, key)
  redis.call("ZADD", TOUCH, due + tonumber(ARGV[16]), key)
  redis.call("HSET", name, "s", "t")
  return "RETRY"
end

local next_flow = next_id == id and flow or read_flow(next_id)
if not may_ring(next_flow, flow) then
  to_line(key, next_id, next_flow.lane, now)
  return "LINE"
end
count_bells(next_flow.limits, 1)
redis.call("ZADD", TOUCH, now + tonumber(ARGV[16]), key)
redis.call("HSET", name, "s", "r")
return "RING"
