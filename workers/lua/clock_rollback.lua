#!lua flags=allow-oom
-- Moves every moment along after the store's clock was set back, so that nothing waits for a time
-- that comes again, and no pause, lease, token or key lasts longer than it was given. What is
-- unreadable stays as it is; the sweep sets it aside. tests/scripts/test_clocks.py lists all moments.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, quarantine, backlog, breaker
-- Reads    gov, flows, jobs, dead; writes gov, deadlines, permits, retries, quarantine, tx:<key>, the
--          backlogs, breaker:<scope>, oauth, oauth:lock, job:<job>; evidence, healthy go
-- Returns  how far the clock was set back, in us; 0 = it was not
-- Cost     O(transactions that were sent and are open + dead letters of a day + jobs)
local rung, asked = unpack(redis.call("HMGET", GOV, "at", "asked"))
local back = math.max(tonumber(rung) or 0, tonumber(asked) or 0) - now
if back < SET_BACK then return 0 end
local flows = redis.call("HKEYS", FLOWS)
check_requeue_types("")
must_be("zset", PERMITS)

local writes = {}
local function plan(...) writes[#writes + 1] = {...} end
-- What a command reads; nothing where the key is of a wrong type.
local function try(...)
  local reply = redis.pcall(...)
  return reply.err and {} or reply
end
-- The number of us, or the text of an integer, moved along; nothing where there is none.
local function moved(moment)
  return tonumber(moment) and string.format("%.0f", tonumber(moment) - back)
end
local function move_fields(key, fields)
  for i, moment in ipairs(try("HMGET", key, unpack(fields))) do
    if moved(moment) then plan("HSET", key, fields[i], moved(moment)) end
  end
end
local function move_keys(name, fields)
  local flat = try("ZRANGE", name, 0, -1, "WITHSCORES")
  for i = 1, #flat, 2 do
    plan("ZADD", name, moved(flat[i + 1]), flat[i])
    if fields then move_fields(tx_key(flat[i]), fields) end
  end
end
-- What is out as a probe is waited for no longer.
local function move_breaker(scope)
  move_fields(breaker_key(scope), {"opened_us", "due_us", "ordered_us"})
  if try("HMGET", breaker_key(scope), "probers")[1] then plan("HSET", breaker_key(scope), "probers", "") end
end

local OF_KEY = {TX.first_sent_us, TX.last_answer_us, TX.first_bad_us, TX.waits_from_us, TX.ordered_us}
move_keys(RETRIES) -- these stand in deadlines as well
move_keys(DEADLINES, OF_KEY)
move_keys(base .. "reclaimed")
move_keys(PERMITS)
move_keys(QUARANTINE, OF_KEY)
for _, flow in ipairs(flows) do move_keys(backlog_key(flow) .. ":due", OF_KEY) end
-- A dead letter may be replayed while its key lives, a day at the most.
local oldest = string.format("%.0f", math.max(0, (now - 86400000000) / 1000))
for _, letter in ipairs(try("XRANGE", base .. "dead", oldest, "+")) do
  for i = 1, #letter[2], 2 do
    if letter[2][i] == "key" then move_fields(tx_key(letter[2][i + 1]), OF_KEY) end
  end
end
for _, job in ipairs(try("ZRANGE", base .. "jobs", 0, -1)) do
  if not try("HMGET", job_key(job), JOB.finished_us)[1] then move_fields(job_key(job), {JOB.started_us}) end
end
move_fields(base .. "oauth", {"asked_us", "renew_us", "expires_us", "failed_until_us", "refused_us",
  "worked_us"})

local MOMENTS = {at = true, next = true, refused_us = true, opened_us = true, asked = true}
local gov = redis.call("HGETALL", GOV)
for i = 1, #gov, 2 do
  local field, value = gov[i], gov[i + 1]
  local first, second = string.match(value, "^(%d+) (%d+)$")
  if string.find(field, "^[cdgok]:") or MOMENTS[field] then
    if moved(value) then plan("HSET", GOV, field, moved(value)) end
    if string.find(field, "^k:") then move_breaker(string.sub(field, 3)) end
  elseif first and string.find(field, "^[wmz]:") then
    plan("HSET", GOV, field, first .. " " .. string.format("%.0f", math.max(second - back, 0)))
  elseif string.find(field, "^429:") or field == "owner" then plan("HDEL", GOV, field)
  elseif first and field == "paused" then
    local provider = string.format("%.0f", math.max(second - back, 0))
    plan("HSET", GOV, field, string.format("%.0f ", math.max(first - back, 0)) .. provider)
  end
end
plan("DEL", base .. "evidence", base .. "healthy") -- its answers have no place in the new time

for _, write in ipairs(writes) do redis.call(unpack(write)) end
add_to(GOV, "set_back", back) -- for records that are not moved, see begin_write.lua
-- The server counts the life of the lock by the same clock.
local lives = redis.call("PTTL", base .. "oauth:lock")
if lives > 0 then
  redis.call("PEXPIRE", base .. "oauth:lock", math.max(1, lives - math.floor(back / 1000)))
end
return back
