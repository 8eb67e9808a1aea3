#!lua
-- Rings for what can leave now: takes transactions out of their backlogs, in the order of lanes and,
-- within a lane, of the least pass of their tenants, as far as tokens and threads go.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  worker    name of the caller
-- ARGV[3]  threads   threads of the caller
-- ARGV[4]  grace_us  how long a bell may stay unanswered
-- ARGV[5]  tick_us   time between two rings of the whole fleet
-- ARGV[6]  pool      "calls" or "media": what the caller's threads do
-- Includes bucket, backlog, tick, capacity, heap, tenants
-- Reads    gov, active, flows, the backlogs, deadlines, retries, quarantine, needs_page, permits; writes
--          gov, the backlogs, tx:<key>, deadlines, retries, quarantine
-- Returns  {turn_us, sweep, job, key, step, steps, job, pool, key, step, …}: when the caller's next
--          turn is, in us from now; 1 when the sweep has work; a job of which the caller opens
--          the next page or ""; then five values for each bell, which the caller publishes;
--          pool "" = a call, else whose threads do the step, which makes none
--          1 and no bells, too, when the store's clock was set back: the sweep mends it
-- Cost     O(fields of gov + flows with work × log + 4 per bell)
may_requeue("")
must_be("set", NEEDS_PAGE)
must_be("hash", FLOWS)
read_gov()
local tick = tonumber(ARGV[5])
if number("at") - now >= SET_BACK then return {tick, 1, ""} end
local silent = now - number("tick") > 500000
local turn, threads, media = take_turn(ARGV[2], tonumber(ARGV[3]), ARGV[6], tick)
count_retries()
if silent then start_all_empty() end

-- Bells and leases together never exceed 1.25 x the threads: the broker holds next to nothing. Those of
-- the pool media never exceed its threads: no bell could wait for a transfer to end.
local of_media = number("b:" .. MEDIA) + number("l:" .. MEDIA)
local of_calls = redis.call("ZCARD", DEADLINES) - redis.call("ZCARD", RETRIES) - of_media
local MOST = 1000 -- what one script, and the batch that is published, may hold
room, left[MEDIA] = math.min(math.floor(threads * 1.25) - of_calls, MOST), math.min(media - of_media, MOST)

local overdue = is_overdue(DEADLINES) or is_overdue(PERMITS)
local reply = {turn - now, overdue and 1 or 0, job_to_open()}
local moved, set, deadlines = {}, {}, {} -- written once, at the end
local function move(field, change) moved[field] = (moved[field] or 0) + change end
local function ring(key, limits)
  local state, step, steps, job = unpack(redis.call("HMGET", tx_key(key), "s", "k", "n", "j"))
  if state ~= "w" then return end -- nobody waits under this name any more
  speak_for(limits)
  for _, bucket in ipairs(limits) do move("b:" .. bucket[NAME], 1) end
  deadlines[#deadlines + 1], deadlines[#deadlines + 2] = now + tonumber(ARGV[4]), key
  redis.call("HSET", tx_key(key), "s", "r")
  local pool = is_governed(limits) and "" or string.sub(pool_of(limits), 6)
  for _, value in ipairs({key, step, steps, job, pool}) do reply[#reply + 1] = value end
  return true
end

-- Of the quarantine, under which workers died, one goes at a time: one bad row condemns no neighbours.
-- One that must wait is passed by others: it may wait for a worker of its pool that nobody starts, with
-- as many more as its dead ones had threads.
local MOST_PASSED = 256
local open_to_some = room > 0 or left[MEDIA] > 0
local quarantine = open_to_some and not gov.quarantined
  and redis.call("ZRANGEBYSCORE", QUARANTINE, "-inf", now, "LIMIT", 0, MOST_PASSED)
for _, key in ipairs(quarantine or {}) do
  local flows, step = unpack(redis.call("HMGET", tx_key(key), "fl", "k"))
  local flow_name = flow_of(flows, step)
  local flow = read_flow(flow_name)
  if available(flow_name, flow.lane) > 0 then
    redis.call("ZREM", QUARANTINE, key)
    if ring(key, flow.limits) then
      set.quarantined = key
      break
    end
  end
end

local tenants, open = {}, {}
if open_to_some then tenants, open = tenants_of(redis.call("SMEMBERS", ACTIVE), gov, available) end
make_heap(tenants, before)
local turns = math.floor(turn / tick)
while tenants[1] do
  -- Tokens and threads only become fewer: with the last limit that lets something through the round is over.
  while #open > 0 and available(open[#open].name, open[#open].lane) <= 0 do table.remove(open) end
  if #open == 0 then break end
  local tenant = tenants[1]
  local key, limits = next_of(tenant, turns, available)
  if key then
    turns = turns + 1
    move("q:" .. tenant.lane, -1)
    set["v:" .. tenant.lane] = tenant.pass -- where the lane stands: the pass of who went last
    tenant.pass = tenant.pass + tenant.stride
    set["p:" .. tenant.name] = tenant.pass
    ring(key, limits)
    sink(tenants, 1, before)
  else
    drop_first(tenants, before)
  end
end
if #deadlines > 0 then redis.call("ZADD", DEADLINES, unpack(deadlines)) end
local writes, write = writer({})
for field, change in pairs(moved) do write(field, number(field) + change) end
for field, value in pairs(set) do write(field, value) end
if #writes > 0 then redis.call("HSET", GOV, unpack(writes)) end
return reply
