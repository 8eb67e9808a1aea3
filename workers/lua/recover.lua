#!lua flags=allow-oom
-- Marks what may have been sent after the backup from which the store was restored: transactions of a
-- job that have not ended, and the job's pages that are not open yet (open.lua). Workers must not
-- run meanwhile. What has the mark of this backup is left as it is.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  job     name of the job
-- ARGV[3]  at_us   the moment of the backup
-- ARGV[4]  dry     1 = only say what would be done, else 0
-- ARGV[5…] key     of its transactions, idempotency keys
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, withdraw, pages, lookups, waiting, ending, restored
-- Includes damage (clear_way: a key of a wrong type moves aside)
-- Reads    tx:<key>, flows, the job; writes the job, tx:<key>, gov, deadlines, retries, quarantine, the
--          backlogs, dead, needs_page
-- Returns  for each key "SEND" it goes again under its key, "LOOK" it is looked up first, "UNKNOWN" it
--          has ended, "LEASE" it was out, the sweep takes it; "MARKED" it was so marked before,
--          "ENDED" it had ended, or there is none; "DAMAGED" it cannot be read, and stays as it is
-- Cost     O(keys × length of their backlogs), about 12 commands for each
local job, backup, dry = ARGV[2], tonumber(ARGV[3]), ARGV[4] == "1"
must_be("hash", job_key(job))
must_be("hash", GOV)
must_be("hash", FLOWS)
must_be("stream", base .. "dead")
must_be("set", NEEDS_PAGE)
check_requeue_types("")
local since = redis.call("HGET", job_key(job), JOB.backup_us)
if not dry and backup < tonumber(since or backup + 1) then
  redis.call("HSET", job_key(job), JOB.backup_us, backup)
end

local function mark(key)
  local why = redis.call("EXISTS", tx_key(key)) == 1 and find_damage(key)
  if why then return "DAMAGED" end
  local tx = read_tx(key, "state step flows guards first_sent_us crashes memo rows backup_us")
  local state, step, flows, crashes = tx.state, tx.step, tx.flows, tx.crashes
  if not state or JOB[state] or state == "split" then return "ENDED" end
  if tx.backup_us == ARGV[3] then return "MARKED" end
  local next_flows, next_memo, lost = maybe_sent(tx.guards, flows, step, tx.memo or "")
  local word = state == "s" and "LEASE" or lost and "UNKNOWN" or looks(next_memo) and "LOOK" or "SEND"
  if dry then return word end
  local first = math.min(tonumber(tx.first_sent_us or backup), backup)
  local marks, write = writer({TX.backup_us, ARGV[3], TX.first_sent_us, first})
  if word == "LEASE" then
    redis.call("HSET", tx_key(key), unpack(marks))
    return word
  end
  local flow_name, next_name = flow_of(flows, step), flow_of(next_flows, step)
  local flow = read_flow(flow_name)
  clear_way("list", "backlog:" .. flow_name)
  clear_way("zset", "backlog:" .. flow_name .. ":due")
  clear_way("zset", "backlog:" .. next_name .. ":due")
  local ending = lost and plan_ending(key, job, "unknown", tonumber(tx.rows or 1), crashes)
  local moves = lost or state ~= "w" or flow_name ~= next_name
  local due = moves and withdraw(key, state, flow_name, flow)
  write(TX.maybe_executed, 1)
  write(TX.memo, next_memo)
  write(TX.flows, next_flows)
  if ending then
    write(TX.error, lost)
    finish(key, ending, lost, marks)
  else
    redis.call("HSET", tx_key(key), unpack(marks))
    if due then requeue(key, next_name, read_flow(next_name).lane, due, crashes) end
  end
  return word
end

local words = {}
for i = 5, #ARGV do words[#words + 1] = mark(ARGV[i]) end
return words
