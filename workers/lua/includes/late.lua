-- An answer that comes after its lease has ended, while nobody else was granted the call: it is recorded as
-- if the sweep had not come.
--
-- Expects  bucket, quarantine, backlog, breaker, lookups, pages, withdraw, reopen, damage
-- Gives    keep_swept, take_back
--
-- The sweep leaves in `swept` whose lease ended, and what it changed: the fence, whether the step may have
-- been executed by an earlier send, the workers that had died under it, and the memo, a space between. A
-- newer grant has another fence.

-- The text of `swept`; `sent` is what was stored while the call was out.
local function keep_swept(sent)
  local maybe_executed = sent.maybe_executed == "1" and 1 or 0
  return table.concat({sent.fence or "-", maybe_executed, sent.crashes or 0, sent.memo or ""}, " ")
end

-- Checks the types of all that a settled answer may write, whatever follows from it.
local function check_all_types(flows)
  for flow_name in string.gmatch(flows, "[^,>]+") do
    check_requeue_types(flow_name)
    must_be("hash", breaker_key(read_flow(flow_name).scope))
  end
  must_be("hash", breaker_key("client"))
  must_be("hash", base .. "evidence")
  must_be("hash", base .. "healthy")
  must_be("hash", GOV)
end

-- Makes the transaction one that is out by this fence, if the sweep took it from whoever holds that. Returns
-- the flows, memo, crashes and sends that it has then, the one that is out not counted; nothing where the
-- fence settles nothing.
local function take_back(key, step, fence)
  local tx = read_tx(key, "state step fence flows memo job rows dead_letter swept sends")
  local swept_fence, maybe_executed, crashes, memo = string.match(tx.swept or "", "^(%S+) (%d) (%d+) (.*)$")
  if swept_fence ~= fence or tx.fence ~= fence or tx.step ~= step then return nil end
  local damage = find_damage(key)
  if damage then error("the transaction " .. key .. " is damaged: " .. damage) end
  local ended, flow_name = tx.state == "unknown", flow_of(tx.flows, tx.step)
  if not ended and tx.state ~= "w" and tx.state ~= "r" then return nil end
  local flow = read_flow(flow_name)
  local flows = looks(memo) ~= looks(tx.memo) and changed_over(tx.flows, step) or tx.flows
  check_all_types(flows)
  must_be("list", backlog_key(flow_name))
  must_be("stream", base .. "attempts")
  must_be("stream", base .. "dead")
  must_be("set", NEEDS_PAGE)
  local reopening = ended and plan_reopening(tx)

  if ended then reopen(reopening) else withdraw(key, tx.state, flow_name, flow) end
  leave_quarantine(key)
  redis.call("ZADD", DEADLINES, now, key)
  redis.call("HDEL", tx_key(key), TX.swept, TX.dead_letter)
  if ended then redis.call("HDEL", tx_key(key), TX.error) end
  redis.call("HSET", tx_key(key), TX.flows, flows, TX.memo, memo, TX.crashes, crashes,
    TX.maybe_executed, maybe_executed, TX.state, "s")
  local sends = math.max(0, (tonumber(tx.sends) or 0) - 1) -- the sweep has counted it
  return {flows = flows, memo = memo, crashes = crashes, sends = sends}
end
