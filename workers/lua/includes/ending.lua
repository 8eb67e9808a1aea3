-- The end of a transaction.
--
-- Expects  wake, quarantine, pages, waiting
-- Gives    plan_ending, finish

-- Reads what the end of a transaction changes in its job, and checks its types, before the first write.
-- `awaited` is what is stored of it, false = nothing, nil = it was not read.
local function plan_ending(key, job, state, rows, crashes, awaited)
  must_be("zset", DEADLINES)
  local dead = state == "failed" or state == "unknown"
  if dead then must_be("stream", base .. "dead") end
  local in_state, ended_transactions, ended, all_rows, pages, next_page, released, low_water = unpack(
    redis.call("HMGET", job_key(job), JOB[state], JOB.ended_transactions, JOB.ended, JOB.rows, JOB.pages,
    JOB.next_page, JOB.released, JOB.low_water))
  ended_transactions, ended = (tonumber(ended_transactions) or 0) + 1, (tonumber(ended) or 0) + rows
  local writes = {JOB[state], (tonumber(in_state) or 0) + rows, JOB.ended_transactions, ended_transactions,
    JOB.ended, ended}
  if ended == tonumber(all_rows) then writes[7], writes[8] = JOB.finished_us, now end
  local needs_page = wants_page(next_page, pages, count_open(released, ended_transactions), low_water)
  if needs_page then must_be("set", NEEDS_PAGE) end
  local quarantined = tonumber(crashes or 0) > 0 and is_from_quarantine(key)
  if awaited == nil then awaited = redis.call("HGET", tx_key(key), TX.awaited) end
  return {job = job, state = state, awaited = awaited, writes = writes, dead = dead, needs_page = needs_page,
    quarantined = quarantined}
end

-- Ends a transaction as planned: the counters move on this edge only, the state is written last, with
-- `fields`. Returns "END".
local function finish(key, ending, why, fields)
  redis.call("ZREM", DEADLINES, key)
  if ending.quarantined then free_quarantine() end
  redis.call("HSET", job_key(ending.job), unpack(ending.writes))
  if ending.needs_page then
    redis.call("SADD", NEEDS_PAGE, ending.job)
    need_ring(now)
  end
  if ending.awaited then wake_all(key) end
  local _, write = writer(fields)
  if ending.dead then
    write(TX.dead_letter, redis.call("XADD", base .. "dead", "*",
      "key", key, "job", ending.job, "state", ending.state, "why", why))
  end
  write(TX.state, ending.state)
  redis.call("HSET", tx_key(key), unpack(fields))
  return "END"
end
