-- What a settled grant leaves in its transaction, and its next bell.
--
-- Expects  bucket, backlog; the types that `requeue` needs are checked
-- Gives    begin_next, keep_answer, count_down, ring_next; the last two answer as settle does

-- What comes next, a step or a part of one, was never sent: its keys are counted anew, and no worker died
-- under it. A step that is done once more, a read, is taken for such a one. `also` is that of `writer`.
local function begin_next(key, crashes, generation, also)
  also("g0", generation)
  if tonumber(crashes or 0) > 0 then
    also("cr", 0)
    if redis.call("HGET", GOV, "quarantined") == key then redis.call("HDEL", GOV, "quarantined") end
  end
end

-- What a step that is done leaves to later ones and to people. `kept` has the answers and the ids so far,
-- a line for each finished step; there are more of them after a step back.
local function keep_answer(verdict, step, steps, kept, also)
  also("id", verdict.provider_id)
  also("an", verdict.answer and (kept.answers and kept.answers .. "\n" or "") .. verdict.answer)
  if steps == "1" then return end
  local ids = (kept.ids or "") .. "\n"
  ids = string.match(ids, "^" .. string.rep("[^\n]*\n", step - 1)) or ids
  also("ids", ids .. (verdict.provider_id or ""))
end

-- Celery counts down to `due`. `grace` us later the sweep asks what became of it.
local function count_down(key, due, grace)
  redis.call("ZADD", RETRIES, due, key)
  redis.call("ZADD", DEADLINES, due + grace, key)
  redis.call("HSET", tx_key(key), "s", "t")
  return "RETRY"
end

-- The next step goes at once where it may, else it waits. `flow_name` and `flow` are its own, `from` is
-- the flow of the step that is done.
local function ring_next(key, flow_name, flow, from, grace)
  if not may_ring(flow, from) then
    requeue(key, flow_name, flow.lane, now)
    return "BACKLOG"
  end
  count_bells(flow.limits, 1)
  redis.call("ZADD", DEADLINES, now + grace, key)
  redis.call("HSET", tx_key(key), "s", "r")
  return "RING"
end
