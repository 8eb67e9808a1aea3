-- What a settled grant leaves in its transaction, and its next bell.
--
-- Expects  wake, bucket, quarantine, backlog; the types that `requeue` needs are checked
-- Gives    begin_next, keep_answer, count_down, ring_next
--
-- The last two answer as settle does.

-- What comes next, a step or a part of one, was never sent: its keys are counted anew, and no worker died
-- under it. A read that is repeated counts as such a step. `write` is that of `writer`.
local function begin_next(key, crashes, generation, sent_digest, write)
  write(TX.first_generation, generation)
  write(TX.sends, 0)
  if sent_digest then write(TX.sent_digest, "") end
  if tonumber(crashes or 0) > 0 then
    write(TX.crashes, 0)
    leave_quarantine(key)
  end
end

-- Keeps what a finished step leaves to later steps and to people: a line of answer_lines, and a line of
-- provider_ids. After a step back there are lines of later steps; their ids are dropped.
local function keep_answer(verdict, step, steps, answer_lines, provider_ids, write)
  local values = verdict.values
  write(TX.provider_id, verdict.provider_id)
  write(TX.answer_lines, values and (answer_lines and answer_lines .. "\n" or "") .. values)
  if steps == "1" then return end
  local ids = (provider_ids or "") .. "\n"
  ids = string.match(ids, "^" .. string.rep("[^\n]*\n", step - 1)) or ids
  write(TX.provider_ids, ids .. (verdict.provider_id or ""))
end

-- Celery counts down to `due`. `grace` us later the sweep asks what became of it.
local function count_down(key, due, grace)
  redis.call("ZADD", RETRIES, due, key)
  redis.call("ZADD", DEADLINES, due + grace, key)
  redis.call("HSET", tx_key(key), TX.state, "t")
  need_ring(due)
  return "RETRY"
end

-- The next step goes at once where it may, else it waits. `flow_name` and `flow` are its own, `from` is
-- the flow of the step that is done.
local function ring_next(key, flow_name, flow, from, grace)
  local may, passed = may_ring(flow, from)
  if not may then
    requeue(key, flow_name, flow.lane, now)
    return "BACKLOG"
  end
  count_bells(flow.limits, 1)
  for _, field in ipairs(passed) do add_to(GOV, field, 1) end
  redis.call("ZADD", DEADLINES, now + grace, key)
  redis.call("HSET", tx_key(key), TX.state, "r")
  return "RING"
end
