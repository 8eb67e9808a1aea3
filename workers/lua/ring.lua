#!lua
-- Rings for what can leave now: takes transactions out of their backlogs, in the order of lanes and,
-- within a lane, of the least pass of their tenants, as far as tokens and threads go. A lane that waits
-- behind others has a small share all the same (includes/lanes.lua).
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  worker    name of the caller
-- ARGV[3]  threads   threads of the caller
-- ARGV[4]  grace_us  how long a bell may stay unanswered
-- ARGV[5]  tick_us   time between two rings of the whole fleet
-- ARGV[6]  pool      "calls" or "media": what the caller's threads do
-- ARGV[7]  known     number of the newest grant that the caller knows, 0 = none
-- Includes counter, bucket (SILENT), quarantine, backlog, lookups, damage, counts (heal_counters)
-- Includes run (know_run: what this run of the server knows), overdue
-- Includes tick (count_retries, start_all_empty, job_to_open: of needs_page), turns (take_turn)
-- Includes capacity (available: how much the limits of a flow and the threads let through)
-- Includes bells (share_threads; ring_bell: state r, and six values of the answer; write_bells), heap
-- Includes guarded (is_guarded_waiting: of any tenant, in any lane), probers
-- Includes refused_row, behind_others (take_due: while a 429 is open, refused rows go after others), backlogs
-- Includes tenants (tenants_of: who has work; next_of: takes a key out of a backlog, a due one first)
-- Includes lanes (next_bell: who goes, the first of these or one in its place; count_turn)
-- Reads    gov, active, flows, the backlogs, deadlines, retries, quarantine, needs_page, permits; writes
--          gov, active, the backlogs, tx:<key>, deadlines, retries, quarantine
-- Returns  {turn_us, sweep, page_job, open, key, step, steps, job, pool, local, key, …}: when the caller's
--          next turn is, in us from now; 1 when the sweep has work; a job of which the caller opens the
--          next page or ""; how many breakers are open; then six values for each bell, which the caller
--          publishes: pool "calls" or "media", whose threads do the step, and local 1 = it makes no
--          call, else 0
--          1 and no bells, too, when the store's clock was set back: the sweep mends it
--          {"LOST", newest, known_until}  the caller knows newer grants than the store: nothing was done;
--          the newest one that the store knows, and up to which number its data are surely complete
-- Cost     O(fields of gov + flows with work × log + 4 per bell); where a probe may go and its tenant has
--          but rows that nothing guards, one command for each flow with work and about 800 reads more; while
--          a 429 is open, 512 reads of rows that are due

-- Most transactions of the quarantine that are passed by. One that must wait may wait for a worker of its
-- pool that nobody starts, with as many more as its dead ones had threads.
local MOST_PASSED = 256

local worker, threads, pool = ARGV[2], tonumber(ARGV[3]), ARGV[6]
local deadline, tick = now + tonumber(ARGV[4]), tonumber(ARGV[5])

-- Of the quarantine, under which workers died, one goes at a time: one bad row condemns no neighbours. One
-- that must wait is passed by others.
local function ring_quarantine()
  if gov.quarantined then return end
  local waiting = redis.call("ZRANGEBYSCORE", QUARANTINE, "-inf", now, "LIMIT", 0, MOST_PASSED)
  for _, key in ipairs(waiting) do
    local flow_name, flow = try_flow(key)
    if not flow then
      redis.call("ZREM", QUARANTINE, key)
      redis.call("ZADD", DEADLINES, now, key) -- the sweep decides what becomes of it
    elseif available(flow_name, flow.lane) > 0 then
      redis.call("ZREM", QUARANTINE, key)
      if ring_bell(key, flow.limits, deadline) then
        set_value("quarantined", key)
        return
      end
    end
  end
end

-- Whether the limits of any flow still let something through. Tokens and threads only become fewer, so a
-- flow that has none is taken off the list.
local function is_any_available(flows)
  while #flows > 0 and available(flows[#flows].name, flows[#flows].lane) <= 0 do table.remove(flows) end
  return #flows > 0
end

-- The tenants take turns, the one with the least pass first, as far as tokens and threads go.
local function ring_tenants(turns)
  local tenants, flows, busy = tenants_of(redis.call("SMEMBERS", ACTIVE))
  make_heap(tenants, before)
  while tenants[1] and is_any_available(flows) do
    local place, key, limits = next_bell(tenants, turns)
    if key then
      local tenant = tenants[place]
      turns = turns + 1
      move_counter("q:" .. tenant.lane, -1)
      set_value("v:" .. tenant.lane, tenant.pass) -- where the lane stands: the pass of who went last
      tenant.pass = tenant.pass + tenant.stride
      set_value("p:" .. tenant.name, tenant.pass)
      ring_bell(key, limits, deadline)
      count_turn(tenant.lane, limits, busy)
      sink(tenants, place, before)
    else
      drop_first(tenants, before)
    end
  end
end

check_requeue_types("")
must_be("set", NEEDS_PAGE)
must_be("hash", FLOWS)
must_be("zset", PERMITS)
must_be("hash", DAMAGED)
local is_damaged = read_gov()
if math.max(number("at"), number("asked")) - now >= SET_BACK then return {tick, 1, "", 0} end
local newest = number("sent")
if newest < 0 then return behind(newest) end
local run = know_run(newest)
if tonumber(ARGV[7] or 0) > newest then return {"LOST", newest, run.known_until} end
if is_damaged then
  heal_counters()
  read_gov()
end
local is_silent = run.starts_empty or now - number("tick") > SILENT
local turn, calls_threads, media_threads = take_turn(worker, threads, pool, tick)
count_retries() -- a countdown that is over is state r from now on: who does not come is swept
if is_silent then start_all_empty() end
run.starts_empty = false
share_threads(calls_threads, media_threads)
local is_sweep_due = is_overdue(DEADLINES) or is_overdue(PERMITS)
if run.is_quiet then
  run.quiet_until = math.max(run.since + QUIET, awaited_until(worker, pool, run.since))
  run.is_quiet = run.quiet_until > now
end
reply[1], reply[2], reply[4] = turn - now, is_sweep_due and 1 or 0, count_breakers()
if run.is_quiet then return reply end
reply[3] = job_to_open()
if has_free_threads() then
  ring_quarantine()
  ring_tenants(math.floor(turn / tick))
end
write_bells()
return reply
