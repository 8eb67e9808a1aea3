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
-- ARGV[5]  tick_us   shortest time between two rings
-- ARGV[6]  pool      "calls" or "media": what the caller's threads do
-- ARGV[7]  most      how many bells and calls of the pool calls may be out; "" = as many as suit its threads
-- ARGV[8]  most_media  the same of the pool media
-- ARGV[9]  known     number of the newest grant that the caller knows, 0 = none
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, lookups, damage, counts (heal_counters)
-- Includes run (know_run: what this run of the server knows), overdue
-- Includes tick (count_retries, start_all_empty, job_to_open: of needs_page), turns (register, owns)
-- Includes capacity (available: how much the limits of a flow and the threads let through)
-- Includes bells (share_threads; ring_bell: state r, and six values of the answer; write_bells), heap
-- Includes quarantine_turn (ring_quarantine: one of it goes first)
-- Includes guarded (is_guarded_waiting: of any tenant, in any lane), probers
-- Includes refused_row, behind_others (take_due: while a 429 is open, refused rows go after others), backlogs
-- Includes tenants (tenants_of: who has work; next_of: takes a key out of a backlog, a due one first)
-- Includes lanes (next_bell: who goes, the first of these or one in its place; count_turn)
-- Includes next_ring (find_next_ring: when something can go, or falls due; plan_next_ring)
-- Reads    gov, active, flows, the backlogs, deadlines, retries, quarantine, needs_page, permits; writes
--          gov, active, the backlogs, tx:<key>, deadlines, retries, quarantine
-- Returns  {turn_us, sweep, page_job, open, owns, calls, media, calls_threads, media_threads, key, step,
--          steps, job, pool, local, key, …}: when the caller is to ring again, in us from now, -1 = not
--          before it is woken (need_ring in includes/wake.lua); 1 when the sweep has work; a job of which the
--          caller opens the next page or ""; how many breakers are open; 1 when the caller is the one that
--          rings, else it gets no bells; how many bells and calls of each pool were out before, and the
--          threads of all workers; then six values for each bell, which the caller publishes: pool "calls"
--          or "media", whose threads do the step, and local 1 = it makes no call, else 0
--          1 and no bells, too, when the store's clock was set back: the sweep mends it
--          {"LOST", newest, known_until}  the caller knows newer grants than the store: nothing was done;
--          the newest one that the store knows, and up to which number its data are surely complete
-- Cost     O(fields of gov + flows with work × log + 4 per bell); where a probe may go and its tenant has
--          but rows that nothing guards, one command for each flow with work and about 800 reads more; while
--          a 429 is open, 512 reads of rows that are due

local worker, threads, pool = ARGV[2], tonumber(ARGV[3]), ARGV[6]
local deadline, tick = now + tonumber(ARGV[4]), tonumber(ARGV[5])

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
if math.max(number("at"), number("asked")) - now >= SET_BACK then return {tick, 1, "", 0, 0, 0, 0, 0, 0} end
local newest = number("sent")
if newest < 0 then return behind(newest) end
local run = know_run(newest)
if tonumber(ARGV[9] or 0) > newest then return {"LOST", newest, run.known_until} end
if is_damaged then
  heal_counters()
  read_gov()
end
local calls_threads, media_threads, is_new = register(worker, threads, pool)
reply[4] = count_breakers()
if not owns(worker) then
  count_out(calls_threads, media_threads)
  if is_new then need_ring(now) end -- its threads can be rung for
  local has_work = gov.next or redis.call("EXISTS", ACTIVE, DEADLINES) > 0
  reply[1] = has_work and owned_for() or -1
  return reply
end
reply[5] = 1
count_retries() -- a countdown that is over is state r from now on: who does not come is swept
count_out(calls_threads, media_threads)
if run.starts_empty then start_all_empty() end
run.starts_empty = false
reply[2] = (is_overdue(DEADLINES) or is_overdue(PERMITS)) and 1 or 0
if run.is_quiet then
  run.quiet_until = math.max(run.since + QUIET, awaited_until(worker, pool, run.since))
  run.is_quiet = run.quiet_until > now
end
if run.is_quiet then
  reply[1] = plan_next_ring(run.quiet_until)
  return reply
end
reply[3] = job_to_open()
share_threads(tonumber(ARGV[7]), tonumber(ARGV[8]))
if has_free_threads() then
  ring_quarantine(deadline)
  ring_tenants(math.floor(now / tick))
end
write_bells()
reply[1] = plan_next_ring(are_most_rung() and now or find_next_ring(tick))
return reply
