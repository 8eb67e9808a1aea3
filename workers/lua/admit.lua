#!lua
-- Decides whether one call may leave now, and if so makes SENT durable: all limits or none. A local step,
-- which makes no call, has no limits, and neither a hold nor the breaker stops it.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us      "" or an integer (tests)
-- ARGV[2]  key         idempotency key of the transaction
-- ARGV[3]  step        1-based
-- ARGV[4]  fence       a name never used before: who may settle this grant
-- ARGV[5]  lease_us    how long nobody else may touch the transaction
-- ARGV[6]  max_age_us  oldest age of a key, from its first send, at which a send may start
-- ARGV[7]  kind        of the jobs that the asker serves; "" = any (tests)
-- ARGV[8]  does        "client" = calls, "pool:<pool>" = local steps in a worker of this pool
-- Includes wake (need_ring: when somebody is to ring)
-- Includes seconds, counter, bucket, charge (charges: what each limit is charged), quarantine
-- Includes breaker (open_scope), probes (start_probe: what may go while a breaker is open)
-- Includes run (know_run: what this run of the server knows, and how long it grants nothing)
-- Includes backlog (requeue: state w, in backlog:<flow>:due), lookups
-- Includes asker (is_for: whether the step is for who asks)
-- Reads    tx:<key>, flows, gov, the job; writes gov, tx:<key>, deadlines, retries, of a probe
--          breaker:<scope>; on WAIT the backlog, active and quarantine
-- Returns  {"GO", start_in_us, spread_us, job, place, attempts, unknown, throttled, answers,
--           memo, generation of the key, calls of this step that are done, "1" = it is a probe of the
--           breaker that nothing guards: the client's own probe goes out in its place, digest of
--           the newest request that went out under the key or "", number of the grant}
--          {"WAIT", short_us}  a limit is short or held so long (1 = all places of a limit are
--                              taken), a breaker is open so long, or a quiet time is not over: back
--                              in the backlog, nothing is charged
--          {"DROP", why}       not yours: missing, ended, older step, in the backlog, lease held,
--                             undone (undo.lua), other kind: the message is not ours, nothing is written
--          {"SPLIT", job, place}  the batch was refused: nothing is written, split.lua does it
--          {"OLD", job, place, generation}  its key is past max_age_us, or of no more use (see
--                              lookups.lua): nothing is written, rotate.lua decides; a read
--                              and a look-up carry no key, and may go
-- Cost     O(limits), 7 commands

-- A message of Celery's countdown may come so many us before the due time: clocks differ, and waiting again
-- would cost a bell.
local EARLY = 20000
-- A limit with a lead may grant a moment up to so many us ahead; the thread waits for it.
local MOST_AHEAD = 100000

local key, step, lease = ARGV[2], ARGV[3], tonumber(ARGV[5])
local state, tx_step, flows, first_sent_us, maybe_executed, attempts, throttled, job, place, answer_lines,
  crashes, memo, generation, guards, done_calls, sent_digest, undone = unpack(redis.call("HMGET",
  tx_key(key), TX.state, TX.step, TX.flows, TX.first_sent_us, TX.maybe_executed, TX.attempts, TX.throttled,
  TX.job, TX.place, TX.answer_lines, TX.crashes, TX.memo, TX.generation, TX.guards, TX.done_calls,
  TX.sent_digest, TX.undone))
-- Rung (r), or counting down (t): then Celery brought the message of its retry before a ring saw it due.
if not state then return {"DROP", "missing"} end
if state == "s" then return {"DROP", "lease held"} end
if state == "w" then return {"DROP", "in the backlog"} end
if state ~= "r" and state ~= "t" then return {"DROP", "ended"} end
if tx_step ~= step then return {"DROP", "other step"} end
if undone == ARGV[4] then return {"DROP", "undone"} end
if state == "t" and tonumber(redis.call("ZSCORE", RETRIES, key) or 0) > now + EARLY then
  return {"DROP", "not due"}
end

local flow_name = flow_of(flows, step)
local flow = read_flow(flow_name)
local limits = flow.limits
if not is_for(ARGV[7], ARGV[8], job, limits) then return {"DROP", "other kind"} end

local call = next_call(memo)
if call == "split" then return {"SPLIT", job, place} end
local keyed = call ~= "look-up" and guard_of(guards, step) ~= "r" -- else it carries no key
local old = first_sent_us and keyed and now - tonumber(first_sent_us) > tonumber(ARGV[6])
if old or needs_fresh_key(call) then return {"OLD", job, place, generation or "1"} end

local fields = {unpack(flow.fields)} -- a copy: it grows
local governed = is_governed(limits)
local bell = state == "r"

-- `fields` has a pair for each limit, the level of its bucket and its bells, and then five more.
local extra = #fields + 1
fields[extra], fields[extra + 1], fields[extra + 2] = slot_of("n:"), "k:client", "k:" .. flow.scope
fields[extra + 3], fields[extra + 4] = "sent", "set_back"
local states = redis.call("HMGET", GOV, unpack(fields))
local newest = read_number(states[extra + 3]) or 0
if newest < 0 then return behind(newest) end
local function back(short)
  check_requeue_types(flow_name)
  if bell then count_bells(limits, -1) end
  requeue(key, flow_name, flow.lane, now, crashes)
  return {"WAIT", short}
end
local run = know_run(newest)
local quiet = quiet_left(run)
if quiet then return back(quiet) end
local probe, probe_from
if governed then probe, probe_from = open_scope(flow, states[extra + 1], states[extra + 2]) end
if probe and probe_from > now then return back(probe_from - now) end
local wait, spread = 0, NO_SPREAD
for i, bucket in ipairs(limits) do
  local level, short = states[2 * i - 1], nil
  if is_places(bucket) then short = (read_number(level) or 0) < bucket[BURST] and 0 or 1
  else short = full_at(level, bucket) + bucket[INTERVAL] - now - bucket[INTERVAL] * bucket[BURST] end
  if short > (bucket[LEAD] > 0 and MOST_AHEAD or 0) then return back(short) end
  wait, spread = math.max(wait, short), math.min(spread, bucket[SPREAD])
end
local charged, places = charges(limits, fields, states, wait)
local writes, write = writer(charged)
local number = math.max(newest + 1, now + (read_number(states[extra + 4]) or 0))
write("sent", number)
run.newest = number
if governed then write(fields[extra], one_more(states[extra])) end
for i = 2, bell and 2 * #limits or 0, 2 do write(fields[i], (tonumber(states[i]) or 0) - 1) end
if probe then must_be("hash", breaker_key(probe)) end

-- The lease comes first: it stops the script if deadlines is of a wrong type. The hashes were read above.
redis.call("ZADD", DEADLINES, now + lease, key)
redis.call("HSET", GOV, unpack(writes))
if not bell then redis.call("ZREM", RETRIES, key) end
local sent, write_sent = writer({TX.fence, ARGV[4], TX.state, "s"})
write_sent(TX.first_sent_us, not first_sent_us and keyed and now)
write_sent(TX.places, places[1] and table.concat(places, "+"))
write_sent(TX.probe, probe)
local good = probe and start_probe(probe, key, now + lease)
redis.call("HSET", tx_key(key), unpack(sent))
local checks = good == 0 and keyed and guard_of(guards, step) == "n"
return {"GO", wait, spread, job, place, attempts or "0", maybe_executed or "0", throttled or "0",
  answer_lines or "", memo or "", generation or "1", done_calls or "0", checks and "1" or "0",
  sent_digest or "", number}
