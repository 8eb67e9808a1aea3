#!lua flags=allow-oom
-- Takes back what nobody answered: bells nobody came for, countdowns whose message was lost, and
-- leases whose holder died or froze, those of guests too.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us       "" or an integer (tests)
-- ARGV[2]  max_crashes  deaths under one transaction before it is a dead letter
-- ARGV[3]  most         how many to take at the most
-- Parts    cell, line, ending, looking, attempts
-- Reads    touch, guests, tx:<key>, flows; writes gov, touch, guests, the line, suspects, tx:<key>, attempts, the job
-- Returns  {bells, leases, ended}: given back, taken over, and ended for good
-- Cost     O(taken), about 10 commands for each
may_line("")
may_tell()
must_be("stream", base .. "dead")
must_be("hash", GOV)
must_be("hash", FLOWS)
for _, guest in ipairs(redis.call("ZRANGEBYSCORE", GUESTS, "-inf", now, "LIMIT", 0, tonumber(ARGV[3]))) do
  free_slots(redis.call("HGET", tx_key(guest), "cc"))
  redis.call("DEL", tx_key(guest))
  redis.call("ZREM", GUESTS, guest)
end
local bells, leases, ended = 0, 0, 0
for _, key in ipairs(redis.call("ZRANGEBYSCORE", TOUCH, "-inf", now, "LIMIT", 0, tonumber(ARGV[3]))) do
  local name = tx_key(key)
  local tx = redis.call("HMGET", name, "s", "k", "fl", "g", "j", "r", "cr", "cc", "pb", "m", "pt")
  local state, crashes = tx[1], tonumber(tx[7] or 0)
  if state ~= "r" and state ~= "t" and state ~= "s" then
    redis.call("ZREM", TOUCH, key)
  else
    local id = flow_of(tx[3], tx[2])
    must_be("hash", job_key(tx[5]))
    must_be("zset", line_key(id) .. ":due")
    local flow = read_flow(id)
    if state == "s" then
      -- SENT is durable and no answer is recorded: the provider may have executed the call.
      crashes = crashes + 1
      local guard = guard_of(tx[4], tx[2])
      local why
      if guard == "n" then why = "sent, then its worker died or froze: not sent again without a guard" end
      if crashes >= tonumber(ARGV[2]) then why = "its worker died or froze " .. crashes .. " times" end
      leases = leases + 1
      if tx[8] then free_slots(tx[8]) end
      if tx[8] or tx[9] then redis.call("HDEL", name, "cc", "pb") end
      tell(key, tx[5], tx[2], tx[11], tx[10], guard == "r" and "not_executed" or "unknown", "", "", why or "its worker died or froze")
      if why then
        ended = ended + 1
        local ends = ending(key, tx[5], "unknown", tonumber(tx[6] or 1), tx[7])
        finish(key, ends, why, {"u", 1, "cr", crashes, "e", why})
      else
        redis.call("HSET", name, "u", 1, "cr", crashes)
        if guard == "l" and not looks(tx[10]) then
          local flows = changed_over(tx[3], tx[2])
          id = flow_of(flows, tx[2])
          redis.call("HSET", name, "m", "l", "fl", flows)
        end
        to_line(key, id, flow.lane, now, crashes)
      end
    else
      if state == "r" then count_bells(flow.limits, -1) end
      bells = bells + 1
      to_line(key, id, flow.lane, now, crashes)
    end
  end
end
return {bells, leases, ended}
