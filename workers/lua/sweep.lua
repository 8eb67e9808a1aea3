#!lua flags=allow-oom
-- Takes back what nobody answered: bells nobody came for, countdowns whose message was lost, and
-- leases whose holder died or froze, those of permits too. What cannot be read it sets aside.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us       "" or an integer (tests)
-- ARGV[2]  max_crashes  deaths under one transaction before it is a dead letter
-- ARGV[3]  most         how many to take at the most
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, breaker, pages, lookups, waiting, ending, attempts
-- Includes damage (find_damage; note_damage: in damaged), aside (set_aside), counts
-- Includes withdraw, reopen, late (keep_swept: an answer that comes now is still recorded)
-- Reads    deadlines, permits, tx:<key>, flows; writes gov, deadlines, permits, the backlog, quarantine,
--          tx:<key>, attempts, the job, damaged
-- Returns  {bells, leases, ended}: requeued, taken over, and ended for good
-- Cost     O(taken), about 10 commands for each
local max_crashes, most = tonumber(ARGV[2]), tonumber(ARGV[3])
check_requeue_types("")
check_record_types()
must_be("stream", base .. "dead")
must_be("hash", GOV)
must_be("hash", FLOWS)
must_be("set", NEEDS_PAGE)
for _, permit in ipairs(redis.call("ZRANGEBYSCORE", PERMITS, "-inf", now, "LIMIT", 0, most)) do
  local places = redis.pcall("HGET", tx_key(permit), TX.places)
  if type(places) == "string" then free_places(places) end
  redis.call("DEL", tx_key(permit))
  redis.call("ZREM", PERMITS, permit)
end

-- A transaction whose flow is not defined is looked at again after so many us.
local LOOK_AGAIN = 30000000
local DIED = "its worker died or froze"
-- Why a transaction ends whose worker died so often, under this guard; nothing when it goes on.
local function reason_to_end(crashes, guard)
  if crashes >= max_crashes then return DIED .. " " .. crashes .. " times" end
  if guard == "n" then return "sent, then " .. DIED .. ": not sent again without a guard" end
end

-- SENT is durable and no answer is recorded: the provider may have executed the call. `sent` is what is
-- stored of its transaction. Returns whether the transaction ended.
-- In an outage a lease that ends is no crash of its row: the call hung.
local function take_over(key, sent, flow_name, flow)
  local crashes, sends, lane = tonumber(sent.crashes or 0), (tonumber(sent.sends) or 0) + 1, flow.lane
  local name, guard, deaths = tx_key(key), guard_of(sent.guards, sent.step), crashes + 1
  local client, own = unpack(redis.call("HMGET", GOV, "k:client", "k:" .. flow.scope))
  if client or own then deaths = crashes end
  local why = reason_to_end(deaths, guard)
  end_call(key, sent.places, sent.probe)
  local outcome = guard == "r" and "not_executed" or "unknown"
  record_attempt(key, sent.step, sent, {outcome = outcome, error = why or DIED})
  if why then
    local ending = plan_ending(key, sent.job, "unknown", tonumber(sent.rows or 1), crashes)
    finish(key, ending, why, {TX.maybe_executed, 1, TX.crashes, deaths, TX.error, why,
      TX.swept, keep_swept(sent), TX.sends, sends})
    return true
  end
  redis.call("HSET", name, TX.maybe_executed, 1, TX.crashes, deaths, TX.swept, keep_swept(sent),
    TX.sends, sends)
  if guard == "l" and not looks(sent.memo) then
    local flows = changed_over(sent.flows, sent.step)
    flow_name = flow_of(flows, sent.step)
    clear_way("zset", "backlog:" .. flow_name .. ":due")
    redis.call("HSET", name, TX.memo, LOOK_UP, TX.flows, flows)
  end
  requeue(key, flow_name, lane, now, deaths)
end

local bells, leases, ended, is_damaged = 0, 0, 0, false
local function take(key)
  local tx = read_tx(key, [[state step flows guards job rows crashes places probe memo done_calls fence
    maybe_executed sends]])
  local state, flow_name = tx.state, flow_of(tx.flows, tx.step)
  if state ~= "r" and state ~= "t" and state ~= "s" then
    redis.call("ZREM", DEADLINES, key)
    return
  end
  local flow = read_flow(flow_name)
  clear_way("zset", "backlog:" .. flow_name .. ":due")
  if state == "s" then
    leases = leases + 1
    if take_over(key, tx, flow_name, flow) then ended = ended + 1 end
    return
  end
  if state == "r" then count_bells(flow.limits, -1) end
  bells = bells + 1
  requeue(key, flow_name, flow.lane, now, tx.crashes)
end

for _, key in ipairs(redis.call("ZRANGEBYSCORE", DEADLINES, "-inf", now, "LIMIT", 0, most)) do
  local why, unknown_flow = find_damage(key)
  if unknown_flow then -- it waits until that is defined again
    note_damage("flows " .. unknown_flow, why)
    redis.call("ZADD", DEADLINES, now + LOOK_AGAIN, key)
  elseif why then
    is_damaged = true
    if set_aside(key, why) then ended = ended + 1 end
  else
    take(key)
  end
end
-- Nobody knows what the damaged had moved, or whether a lease that ended still names its places.
if is_damaged or leases > 0 then heal_counters() end
return {bells, leases, ended}
