-- Stands in front of all scripts in their library: the legend of the stored names, the names of keys, and
-- the clock. The includes that a script names in its header, in includes/, come between the two.
--
-- The library is loaded once and called often. So at the outer level of this file and of an include stand
-- constants (`local NAME = …`), functions, and variables that are only declared (`local name`). What
-- these hold is one call's own: the function start_<file> sets each of them before every call. A script
-- needs no such care, its whole text is a function. Only KEPT outlives a call.
--
-- KEYS[1] is the client's prefix "<namespace>:{<client>}:"; all other names are built from it and
-- share its hash tag. KEYS[2], which tests leave out, is the client's mark: a key that only the store of
-- this installation has. Without it no script does anything: a store that was emptied, or another
-- installation's, lets nothing leave. ARGV[1] is now_us: "" = this server's clock (production), an integer
-- in tests.
-- Times are integers in us since the epoch, below 2^53. A flow's definition is made in
-- workers/governor/flows.py.
--
-- The legend says every stored name once. Names of fields are short in the store, because a hash stays in its
-- compact form only while it is small. The fields of a transaction and of a job are the tables TX and JOB:
-- scripts read and write them by their full names. The other names stand in comments, one a line, as
-- "<where>.<stored name>  <full name>  <meaning>".
--
-- Keys of a client, behind its prefix:
--   key.gov                  governor           hash: the quota and the state of the governor, see gov.*
--   key.flows                flows              hash: flow -> its definition
--   key.active               active             set: flows in which something waits
--   key.backlog:<flow>       new                list: transactions of this flow that never went
--   key.backlog:<flow>:due   due                sorted set: those that go again -> when they are due
--   key.deadlines            deadlines          sorted set: transaction that is out -> by when it is answered
--   key.reclaimed            reclaimed          sorted set with expiry: transaction that is out since before
--                                               the store went back -> as in deadlines
--   key.retries              retries            sorted set: transaction in Celery's countdown -> its due time
--   key.quarantine           quarantine         sorted set: those under which a worker died -> due time
--   key.permits              permits            sorted set: permit of a call outside of jobs -> its end
--   key.needs_page           needs_page         set: jobs that want their next page opened
--   key.jobs                 jobs               sorted set: job -> when it was accepted
--   key.job:<job>            job                hash: one job, see job.*
--   key.job:<job>:page:<n>   page               string: one page of its rows, compressed
--   key.tx:<key>             transaction        hash: one transaction, or one permit, see tx.*
--   key.tx:caller:<name>     caller             hash with expiry: newest 429 of calls outside of jobs that
--                                               have this flow, or this request, see release.lua
--   key.waiters:<key>        waiters            set: transactions that wait for this one, each
--                                               behind its step and its flow, a space between
--   key.writes:<task>        writes             hash with expiry: key of a write of a task outside of jobs ->
--                                               when it was first sent, its digest, and "again" where
--                                               more than one run began it; spaces between
--   key.dead                 dead_letters       stream: transactions that ended without success
--   key.attempts             attempts           stream: newest sends that were no plain success
--   key.audit                audit              stream: what was done to the client, by whom and why
--   key.damaged              damaged            hash: what is unreadable -> when that was seen, and why
--   key.damaged:<name>       moved_aside        a key of a wrong type that stood in the way
--   key.refusals             refusals           stream: newest answers of 429, see governor/refusals.py
--   key.overrides            overrides          hash: which limits hold, see overrides.*
--   key.bound                bound              hash: account of the ledger, see governor/binding.py
--   key.evidence             evidence           hash: scope -> its newest answers, see includes/evidence.lua;
--                                               429:<scope> -> its 429s, see includes/refusal_record.lua
--   key.healthy              healthy            hash: scope -> the second since which all is well again;
--                                               429:<scope> -> what is counted of answers, for later 429s
--   key.unconnected          unconnected        hash with expiry: process that cannot connect -> when it
--                                               failed last, see includes/ways.lua
--   key.breaker:<scope>      breaker            hash: a breaker that is open, see breaker.*
--   key.oauth                oauth              hash: the access token, see oauth.*
--   key.oauth:lock           oauth_lock         string with expiry: who renews the token just now
--   key.installation:<id>    installation       string: the mark of the installation of this id
--
-- Fields of gov. A limit stands under its name, "client" is all of the client, "pool:<pool>" a pool:
--   gov.c:<limit>          full_at        when its bucket is full again
--   gov.b:<limit>          bells          bells that are out for it
--   gov.l:<limit>          places         places taken of a limit of concurrent calls, or of a pool
--   gov.g:<limit>          left_until     until then one token of it is left to a permit that asks
--   gov.y:<scope>          hold_reason    why the newest pause of this scope was made
--   gov.429:<scope>        others_gone    while a 429 of it is open: how many others went since a row that
--                                         was refused, at most 8, and when the newest 429 came
--   gov.z:<scope>          quota_left     calls that the provider leaves, and until when, a space between
--   gov.q:<lane>           queued         transactions that wait in this lane
--   gov.p:<lane>:<tenant>  pass           pass of a tenant in this lane
--   gov.v:<lane>           virtual_time   pass of who went last in this lane
--   gov.s:<lane>:<limit>   turns_passed   bells of lanes before it for this limit since one of this lane, at
--                                         most 19
--   gov.w:<worker>         threads        threads of a live worker, and until when it counts, a space between
--   gov.m:<worker>         media_threads  the same in the pool media
--   gov.o:<job>            opening_until  until then somebody opens the next page of this job
--   gov.n:<slot>           granted        second % 16 -> second * 100000 + grants in it
--   gov.u:<slot>           unsent         the same of grants that were not used
--   gov.x:<slot>           turned_away    the same of answers of 429
--   gov.next               next_ring      when a ring is needed next; absent: not before it is woken
--   gov.owner              owner          worker that rings, until when no other one does, a space between
--   gov.at                 rung_at        when somebody rang last
--   gov.asked              asked_at       when a call outside of jobs asked last
--   gov.set_back           set_back       by how much the clock was set back, all in all
--   gov.sent               newest_grant   number of the newest grant; negative: stopped, see includes/run.lua
--   gov.k:<scope>          probe_at       while its breaker is open: from when on a probe may go
--   gov.d:<scope>          hold_ended     when its breaker closed last, if it was ever open
--   gov.opened             opened         scope whose breaker opened last
--   gov.opened_us          opened_at      when that was
--   gov.quarantined        quarantined    the one transaction of the quarantine that is out
--   gov.paused             paused         end of an operator's pause, and of the provider's hold before it
--   gov.refused            refused_scope  scope that was refused last
--   gov.refused_us         refused_at     when that was
--   gov.capped             capped         tenants with limits of their own, each as /name/
--
-- Fields of overrides:
--   overrides.#        version   how often any of them changed
--   overrides.#agreed  agreed    proposals of the configurations, JSON, see governor/proposals.py
--   overrides.<limit>  override  what is set live of this limit, JSON
--
-- Fields of breaker:
--   breaker.cause      cause      "throttled" or "failing"
--   breaker.why        why        the newest reason, one sentence
--   breaker.opened_us  opened_at  when it opened
--   breaker.due_us     due_at     when the next probe is due, whoever is out
--   breaker.ordered_us ordered_at until then the provider ordered to wait, if it did
--   breaker.every_us   every      from the start of the next probe to the one after it
--   breaker.probers    probers    who is out, and until when each is waited for
--   breaker.probes     probes     how many went; a row in doubt and a fresh one take turns
--   breaker.good       good       probes in a row that were answered well
--
-- Fields of oauth:
--   oauth.token            token            the access token, encrypted
--   oauth.generation       generation       counts the tokens
--   oauth.asked_us         asked_us         when it was asked for
--   oauth.renew_us         renew_us         from when on it is to be renewed
--   oauth.expires_us       expires_us       from when on it is invalid
--   oauth.refused          refused          generation that the provider refused
--   oauth.renewals         renewals         renewals after a 401 that are not forgotten yet
--   oauth.refused_us       refused_us       when a call was refused with it last
--   oauth.worked_us        worked_us        when a call that was refused came back and was answered
--   oauth.failed_until_us  failed_until_us  until then nobody asks again
--   oauth.failure          failure          what the newest attempt to renew it met
--   oauth.failure_refused  failure_refused  1 = a person must act
--   oauth.failed_by        failed_by        digest of the secrets with which that asked

-- The open states of a transaction, where it stands meanwhile, and what moves it on:
--   w waits         in a backlog, or in the quarantine         ring
--   r rung          in deadlines until its bell is answered    admit; sweep, when nobody came
--   t counts down   in retries and deadlines                   admit; ring makes it r when it is due
--   s sent          in deadlines until its lease ends          settle; sweep, when its worker died
-- Fields of a transaction. A permit has flows, places, probe and state alone, a caller has refused.
local TX = {
  state = "s",             -- w waits, r rung, t counts down, s sent, g permit; else the final word
  step = "k",              -- step that is next, out, or where it ended, from 1
  steps = "n",             -- number of its steps
  flows = "fl",            -- flow of each step, comma between, or one for all; "now>then" with a look-up
  guards = "g",            -- guard of each step, one letter (k u l n, r = a read), or one for all
  job = "j",               -- its job
  place = "p",             -- place of its payload, see workers/ledger/batch.py
  rows = "r",              -- rows of the file that share it; absent = 1
  repeats = "r:",          -- before row n of its batch, from 0: how often further lines of the file repeat it
  halves = "h",            -- of a batch that was split: row where the second half begins, both keys
  first_sent_us = "t1",    -- first send under its key
  last_answer_us = "t2",   -- newest answer to a send, except the one by which the transaction succeeded
  fence = "f",             -- fence of the newest grant
  undone = "uf",           -- fence of the newest question to admit that was undone before it ran
  generation = "gn",       -- generation of its key; absent = 1
  first_generation = "g0", -- generation with which its step, or replay, began; absent = 1
  done_calls = "pt",       -- calls of this step that are done: parts, or polls; absent = 0
  attempts = "at",         -- attempts of this step
  sends = "ns",            -- how often a call of this step was sent, as far as is known; absent = 0
  counted = "ca",          -- what they count, in eighths, see includes/evidence.lua; absent = 0
  first_bad_us = "t3",     -- since when this step goes on trying; later when it waited for others since
  waits_from_us = "t4",    -- while it goes on so: from then on it waits for others
  throttled = "th",        -- answers of 429
  refused = "rf",          -- its newest 429, see includes/own_refusals.lua
  crashes = "cr",          -- workers that died under it
  places = "cc",           -- while it is out: limits in which it has a place, + between
  probe = "pb",            -- while its call is a probe: the scope of the breaker
  sent_digest = "sd",      -- digest of the newest request that went out under its key, see settle.lua
  memo = "m",              -- what the next call of this step must know, JSON, see workers/answer/guards.py
  maybe_executed = "u",    -- 1 while an earlier send of this step may have been executed
  status = "st",           -- newest HTTP status
  provider_id = "id",      -- newest id at the provider
  correlation_id = "co",   -- newest correlation id
  error = "e",             -- newest error, one sentence
  answer_lines = "an",     -- answers of finished steps, one line of JSON each
  provider_ids = "ids",    -- of several steps: provider's id of each that is finished, a line each
  backup_us = "b",         -- backup after which each step to come may have been sent, see recover.lua
  dead_letter = "d",       -- its entry among the dead letters
  awaited = "aw",          -- step after which those are woken that wait for it, see includes/waiting.lua
  ordered_us = "t5",       -- where that is when it is due: the provider ordered its wait
  swept = "sw",            -- whose lease ended without an answer, see includes/late.lua
}

-- Fields of a job. Its counts are rows, if nothing else is said.
local JOB = {
  schema = "schema",                  -- number of the form in which it and its rows are stored
  ["params.kind"] = "kind",           -- kind of its rows
  client = "client",                  -- client that it belongs to
  source = "name",                    -- name of its file
  params = "job_params",              -- its parameters, JSON
  contact_list = "list",              -- of contacts of a campaign: the provider's id of their list
  digest = "digest",                  -- digest of what was submitted
  joined = "joined",                  -- rows that share the transaction of another row
  low_water = "low",                  -- when fewer transactions than this are open, a page is opened
  rows = "rows",                      -- lines of its file, rejected ones included
  calls = "calls",                    -- calls that it will make
  pages = "pages",                    -- pages that are stored
  next_page = "next_page",            -- page that is opened next, from 0
  released = "released",              -- transactions of opened pages
  ended_transactions = "finished_tx", -- transactions that have ended
  ended = "ended",                    -- rows in a final state
  succeeded = "succeeded",            -- rows that ended so, as the next five
  failed = "failed",
  unknown = "unknown",
  cancelled = "cancelled",
  expired = "expired",
  rejected = "rejected",
  throttled = "throttled",            -- answers of 429
  replayed = "replayed",              -- rows that were replayed
  began_us = "began_us",              -- when it was created
  started = "started",                -- 1 when the whole file is there and work may begin
  started_us = "started_us",          -- when that was
  finished_us = "finished_us",        -- when the last row ended
  backup_us = "since",                -- backup from which the store was restored, see recover.lua
}

-- Why no script runs in a store without the mark; workers/store/replaced.py knows the first word.
local FOREIGN = "FOREIGN the store no longer has the mark of this installation"
local function is_foreign(mark) return mark and redis.call("EXISTS", mark) == 0 end

local base, GOV, FLOWS, DEADLINES, RETRIES, QUARANTINE, ACTIVE, NEEDS_PAGE, PERMITS, DAMAGED, now

local function start_prelude(KEYS, ARGV)
  base = KEYS[1]
  GOV, FLOWS, DEADLINES, RETRIES = base .. "gov", base .. "flows", base .. "deadlines", base .. "retries"
  QUARANTINE, ACTIVE, NEEDS_PAGE = base .. "quarantine", base .. "active", base .. "needs_page"
  PERMITS, DAMAGED = base .. "permits", base .. "damaged"
  now = tonumber(ARGV[1])
  if not now then
    local time = redis.call("TIME")
    now = time[1] * 1000000 + time[2]
  end
end

-- The number of a stored text: all that we store are below 2^53. Infinity and NaN, which are numbers to Lua,
-- are none: a limit that is full again at either of them would hold back all, or nothing.
local function read_number(text) return math.abs(tonumber(text) or 2^53) < 2^53 and tonumber(text) or nil end

local function tx_key(key) return base .. "tx:" .. key end
local function backlog_key(flow) return base .. "backlog:" .. flow end
local function job_key(job) return base .. "job:" .. job end

-- Number of the forms in which this release stores; workers/ledger/identity.py has the same.
local SCHEMA = 1

-- A store's clock that is so many us behind the last ring, or the last question of a call outside of jobs,
-- was set back.
local SET_BACK = 1000000

-- A script does not roll back: a key of a wrong type must stop it before its first write. What a
-- script reads first needs no such check, for reading fails as well; what it only writes does.
local function must_be(kind, name)
  local actual = redis.call("TYPE", name).ok
  if actual ~= kind and actual ~= "none" then
    error(name .. " is a " .. actual .. ", not a " .. kind)
  end
end

-- The flow of a step: the n-th of the list, or the only one when all steps share it. Of a step that
-- has two, "now>then", it is the one by which its next call goes.
local function flow_of(flows, step)
  if not string.find(flows, "[,>]") then return flows end
  local nth = 0
  for flow in string.gmatch(flows, "[^,]+") do
    nth = nth + 1
    if nth == tonumber(step) then return string.match(flow, "^[^>]+") end
  end
end

-- What outlives a call: decoded definitions of flows, parsed names of flows, the lists of fields that
-- scripts read, and what this run of the server knows of each client (includes/run.lua).
local KEPT = {flows = {}, size = 0, names = {}, named = 0, tx = {}, job = {}, runs = {}, run_count = 0}

-- What was not asked for is not known; that is no field that is not there.
local function refuse_field(_, name) error("the field " .. name .. " was not read") end

-- Keeps for later calls which fields these names are.
local function keep_list(lists, legend, names)
  local full, stored = {}, {}
  for name in string.gmatch(names, "%S+") do
    full[#full + 1] = name
    stored[#full] = legend[name] or error("the legend has no field " .. name)
  end
  lists[names] = {full = full, stored = stored, size = #full, only_read = {__index = refuse_field}}
  return lists[names]
end

-- Reads the fields of a hash whose full names stand in `names`, with spaces between, into a table. What is
-- not stored is false. What every call needs, admit.lua, settle.lua and ending.lua, reads into locals of
-- these names: that costs less.
local function read_fields(key, legend, lists, names)
  local list = lists[names] or keep_list(lists, legend, names)
  local stored, full, values = redis.call("HMGET", key, unpack(list.stored)), list.full, {}
  for i = 1, list.size do values[full[i]] = stored[i] end
  return setmetatable(values, list.only_read)
end

local function read_tx(key, names) return read_fields(tx_key(key), TX, KEPT.tx, names) end
local function read_job(job, names) return read_fields(job_key(job), JOB, KEPT.job, names) end

-- What a flow's definition says. It is kept decoded, for later calls of all scripts: nobody changes it.
-- More than MOST_FLOWS of them are forgotten all at once.
local MOST_FLOWS = 1000
local function check_flow(flow)
  local whole = tonumber(flow.lane) and tonumber(flow.stride) and flow.scope and #flow.fields > 0
  for _, bucket in ipairs(flow.limits) do
    for i = 2, 6 do whole = whole and tonumber(bucket[i]) end
  end
  if not whole or not flow.limits[1] then error("the definition of a flow cannot be read") end
end
local function decode(definition)
  local flow = KEPT.flows[definition]
  if not flow then
    if KEPT.size == MOST_FLOWS then KEPT.flows, KEPT.size = {}, 0 end
    flow = cjson.decode(string.match(definition, "^[^\n]*"))
    check_flow(flow)
    KEPT.flows[definition], KEPT.size = flow, KEPT.size + 1
  end
  return flow
end

local function read_flow(flow)
  local definition = flow and redis.call("HGET", FLOWS, flow)
  return decode(definition or error("the flow " .. tostring(flow) .. " is not defined"))
end

-- A list of fields and values for HSET, and the function that adds to it what has a value.
local function writer(writes)
  return writes, function(field, value)
    if value then writes[#writes + 1], writes[#writes + 2] = field, value end
  end
end
