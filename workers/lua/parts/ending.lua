-- The end of a transaction.

-- What the end of a transaction changes in its job, found before the first write.
local function ending(key, job, state, rows, crashes)
  must_be("zset", TOUCH)
  local dead = state == "failed" or state == "unknown"
  if dead then must_be("stream", base .. "dead") end
  local it = redis.call("HMGET", job_key(job),
    state, "finished_tx", "ended", "rows", "pages", "opened", "released", "low")
  local function number(i) return tonumber(it[i] or 0) end
  local finished, ended = number(2) + 1, number(3) + rows
  local writes = {state, number(1) + rows, "finished_tx", finished, "ended", ended}
  if ended == tonumber(it[4]) then writes[7], writes[8] = "finished_us", now end
  local hungry = number(6) < number(5) and number(7) - finished < number(8)
  if hungry then must_be("set", HUNGRY) end
  local suspect = tonumber(crashes or 0) > 0 and redis.call("HGET", GOV, "suspect") == key
  return {job = job, state = state, writes = writes, dead = dead, hungry = hungry, suspect = suspect}
end

-- The end: the counters move on this edge only, the state is written last, with `fields`.
local function finish(key, ends, why, fields)
  redis.call("ZREM", TOUCH, key)
  if ends.suspect then redis.call("HDEL", GOV, "suspect") end
  redis.call("HSET", job_key(ends.job), unpack(ends.writes))
  if ends.hungry then redis.call("SADD", HUNGRY, ends.job) end
  if ends.dead then
    fields[#fields + 1], fields[#fields + 2] = "d",
      redis.call("XADD", base .. "dead", "*", "key", key, "job", ends.job, "state", ends.state, "why", why)
  end
  fields[#fields + 1], fields[#fields + 2] = "s", ends.state
  redis.call("HSET", tx_key(key), unpack(fields))
end
