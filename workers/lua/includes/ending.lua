-- The end of a transaction.
--
-- Expects  the prelude
-- Gives    ending, finish

-- What the end of a transaction changes in its job, read before the first write.
local function ending(key, job, state, rows, crashes)
  must_be("zset", DEADLINES)
  local dead = state == "failed" or state == "unknown"
  if dead then must_be("stream", base .. "dead") end
  local in_state, finished, ended, all, pages, next_page, released, low = unpack(redis.call("HMGET",
    job_key(job), state, "finished_tx", "ended", "rows", "pages", "next_page", "released", "low"))
  finished, ended = tonumber(finished or 0) + 1, tonumber(ended or 0) + rows
  local writes = {state, tonumber(in_state or 0) + rows, "finished_tx", finished, "ended", ended}
  if ended == tonumber(all) then writes[7], writes[8] = "finished_us", now end
  local needs_page = tonumber(next_page or 0) < tonumber(pages or 0)
    and tonumber(released or 0) - finished < tonumber(low or 0)
  if needs_page then must_be("set", NEEDS_PAGE) end
  local quarantined = tonumber(crashes or 0) > 0 and redis.call("HGET", GOV, "quarantined") == key
  return {job = job, state = state, writes = writes, dead = dead, needs_page = needs_page,
    quarantined = quarantined}
end

-- The end: the counters move on this edge only, the state is written last, with `fields`.
local function finish(key, ends, why, fields)
  redis.call("ZREM", DEADLINES, key)
  if ends.quarantined then redis.call("HDEL", GOV, "quarantined") end
  redis.call("HSET", job_key(ends.job), unpack(ends.writes))
  if ends.needs_page then redis.call("SADD", NEEDS_PAGE, ends.job) end
  local _, also = writer(fields)
  if ends.dead then
    also("d", redis.call("XADD", base .. "dead", "*",
      "key", key, "job", ends.job, "state", ends.state, "why", why))
  end
  also("s", ends.state)
  redis.call("HSET", tx_key(key), unpack(fields))
end
