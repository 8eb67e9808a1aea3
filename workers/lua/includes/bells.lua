-- The bells of one ring: they are gathered, and what they change is written once, at the end.
--
-- Expects  bucket, tick, capacity
-- Gives    reply, count_out, threads_of, share_threads, move_counter, set_value, ring_bell, are_most_rung,
--          write_bells
--
-- `reply` is what ring answers: nine values, and then six for each bell. `moves` says how much counters of
-- gov change, `values` which fields of gov get new ones; `deadlines` has by when each bell is answered.
local reply
local moves, values, deadlines
local function start_bells() reply, moves, values, deadlines = {0, 0, "", 0, 0, 0, 0, 0, 0}, {}, {}, {} end

-- Unless the caller says how many, bells and leases together never exceed so many percent of the threads of
-- the pool calls: a thread finds its next bell waiting, and the broker holds next to nothing.
local BELLS_PERCENT = 125
-- Most bells of each pool that one script rings, and that are published in one batch.
local MOST_BELLS = 50

-- Answers how many bells and leases of each pool are out, and its threads. `calls` and `media` are those.
local function count_out(calls, media)
  local of_media = number("b:" .. MEDIA) + number("l:" .. MEDIA)
  local of_calls = redis.call("ZCARD", DEADLINES) - redis.call("ZCARD", RETRIES) - of_media
  reply[6], reply[7], reply[8], reply[9] = of_calls, of_media, calls, media
end

-- How many threads all workers have for steps of these limits.
local function threads_of(limits) return pool_of(limits) == MEDIA and reply[9] or reply[8] end

-- Gives the pools their free threads; `most_calls` and `most_media` say how many may be out. Bells that are
-- out for the pool media, with the transfers under way, never exceed its threads: no bell could wait for a
-- transfer to end.
local function share_threads(most_calls, most_media)
  local of_calls, of_media, calls, media = unpack(reply, 6, 9)
  most_calls = most_calls or math.floor(calls * BELLS_PERCENT / 100)
  most_media = math.min(most_media or media, media)
  set_free_threads(math.min(most_calls - of_calls, MOST_BELLS), math.min(most_media - of_media, MOST_BELLS))
end

local function move_counter(field, change) moves[field] = (moves[field] or 0) + change end
local function set_value(field, value) values[field] = value end

local function are_integers(step, steps)
  return step and steps and string.find(step, "^%d+$") and string.find(steps, "^%d+$")
end

-- Rings the bell of a transaction, which is to be answered by `deadline`; returns whether it waited.
local function ring_bell(key, limits, deadline)
  local is_whole, tx = pcall(read_tx, key, "state step steps job")
  local has_ended = is_whole and tx.state and JOB[tx.state] or is_whole and tx.state == "split"
  if has_ended then return false end -- nobody waits under this name any more
  if not is_whole or tx.state ~= "w" or not tx.job or not are_integers(tx.step, tx.steps) then
    redis.call("ZADD", DEADLINES, "NX", now, key) -- the sweep decides what becomes of it
    return false
  end
  speak_for(limits)
  for _, bucket in ipairs(limits) do move_counter("b:" .. bucket[NAME], 1) end
  deadlines[#deadlines + 1], deadlines[#deadlines + 2] = deadline, key
  redis.call("HSET", tx_key(key), TX.state, "r")
  local pool, is_local = "calls", 0
  if not is_governed(limits) then pool, is_local = string.match(pool_of(limits), "^pool:(.+)$"), 1 end
  for _, value in ipairs({key, tx.step, tx.steps, tx.job, pool, is_local}) do reply[#reply + 1] = value end
  return true
end

-- Whether more could go: another ring is needed at once, after those of other clients.
local function are_most_rung() return #deadlines >= 2 * MOST_BELLS end

local function write_bells()
  if #deadlines > 0 then redis.call("ZADD", DEADLINES, unpack(deadlines)) end
  local writes, write = writer({})
  for field, change in pairs(moves) do write(field, number(field) + change) end
  for field, value in pairs(values) do write(field, value) end
  if #writes > 0 then redis.call("HSET", GOV, unpack(writes)) end
end
