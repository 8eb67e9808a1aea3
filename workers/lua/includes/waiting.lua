-- When a transaction that waits goes again: after its delay, and it is known whether the provider ordered
-- that; or when another one of its client has made what it needs. Those are woken once, when that one has
-- done the step that they wait for, or has ended.
--
-- Expects  wake, lookups
-- Gives    due_of, wake, wake_all
--
-- A transaction that waits stands in its backlog, due much later. Its name is in the set waiters:<key> of the
-- other one, with its step and flow, a space between; and that one has `awaited`, the step after which they
-- are woken. What cannot be read of all this wakes nobody, and those go when they are due.

local function waiters_key(key) return base .. "waiters:" .. key end

-- Whether the provider ordered this wait. A look-up waits for what the provider shows late, and a poll for
-- its turn.
local function is_ordered(verdict)
  local is_order = (verdict.retry_after_us or 0) > 0 and not verdict.part_done
  return verdict.throttled or is_order and not looks(verdict.memo)
end

-- When the transaction `key` goes again at `step`, whose flow is `flow_name`; `verdict` is as settle.lua
-- describes it. At once, where the one that it waits for was done while it looked; else it is registered.
local function due_of(verdict, key, step, flow_name)
  local due, other, awaited = now + (verdict.delay_us or 0), verdict.waits_for, verdict.waits_for_step
  if is_ordered(verdict) then redis.call("HSET", tx_key(key), TX.ordered_us, due) end
  if not other then return due end
  local is_whole, tx = pcall(read_tx, other, "state step awaited")
  if not is_whole or not tx.state or not tonumber(tx.step) then return due end
  if #tx.state > 1 or tonumber(tx.step) > awaited then return now end -- a final state is a word
  local added = redis.pcall("SADD", waiters_key(other), step .. " " .. flow_name .. " " .. key)
  local first = math.min(awaited, tonumber(tx.awaited) or awaited)
  if type(added) == "number" then redis.call("HSET", tx_key(other), TX.awaited, first) end
  return due
end

-- Makes all due that wait for this transaction. One that went on since, or goes earlier, stays as it is.
local function wake_all(key)
  local waiters = redis.pcall("SMEMBERS", waiters_key(key))
  for _, waiter in ipairs(waiters) do
    local step, flow_name, waiting = string.match(waiter, "^(%d+) (%S+) (.+)$")
    local is_whole, tx = pcall(read_tx, waiting or "", "state step")
    if is_whole and tx.state == "w" and tx.step == step then
      redis.pcall("ZADD", backlog_key(flow_name) .. ":due", "XX", "LT", now, waiting)
    end
  end
  if waiters[1] then need_ring(now) end
  redis.call("DEL", waiters_key(key))
  redis.call("HDEL", tx_key(key), TX.awaited)
end

-- The transaction has done this step; `awaited` is what is stored of it.
local function wake(key, awaited, step)
  if awaited and step >= (tonumber(awaited) or 0) then wake_all(key) end
end
