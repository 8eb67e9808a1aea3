-- A transaction that cannot be read ends where its job can still count it; else it stands among what is
-- damaged.
--
-- Expects  quarantine, ending, damage
-- Gives    set_aside

-- Takes it out; returns whether it ended.
local function set_aside(key, why)
  local stored = redis.pcall("HMGET", tx_key(key), TX.job, TX.rows, TX.state)
  local job, rows, state = unpack(stored.err and {} or stored)
  local counts = job and tonumber(rows or 1) and state and #state == 1
    and redis.pcall("HEXISTS", job_key(job), JOB.rows) == 1
  redis.call("ZREM", DEADLINES, key)
  redis.call("ZREM", RETRIES, key)
  leave_quarantine(key)
  if not counts then return note_damage("tx:" .. key, why) end
  local text = "what is stored of it is damaged: " .. why
  finish(key, plan_ending(key, job, "unknown", tonumber(rows or 1)), text, {TX.error, text})
  return true
end
