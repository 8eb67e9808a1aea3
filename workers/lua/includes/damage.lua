-- What is stored of a transaction and cannot be read: the scripts that walk over many set it aside and go on
-- with the others.
--
-- Expects  lookups
-- Gives    find_damage, note_damage, note_unknown_flow, clear_way, clear_backlog
--
-- The hash `damaged` has what stands aside: a name behind the client's prefix -> when that was seen and what
-- is wrong, a space between. A transaction whose job can be counted is ended `unknown` instead (sweep.lua).
local MOST_NOTED = 10000

-- A failure of a function or of a command, as people read it.
local function text_of(failure)
  local text = type(failure) == "table" and failure.err or tostring(failure)
  return (string.gsub(text, " script: .*$", ""))
end

local function find_wrong_field(tx)
  for name in string.gmatch("state step steps flows guards job place", "%S+") do
    if not tx[TX[name]] then return "it has no " .. name end
  end
  local integers = [[step steps rows first_sent_us last_answer_us generation first_generation done_calls
    attempts sends counted first_bad_us waits_from_us ordered_us throttled crashes backup_us]]
  for name in string.gmatch(integers, "%S+") do
    local text = tx[TX[name]]
    if text and not string.find(text, "^%-?%d+$") then return "its " .. name .. " is no integer" end
  end
  local step, guards = tonumber(tx[TX.step]), tx[TX.guards]
  if step < 1 or step > tonumber(tx[TX.steps]) then return "it has no step " .. step end
  if not string.find(guards, "^[kulnr]+$") or (#guards > 1 and #guards < step) then
    return "its guards are unknown"
  end
  if not string.find(tx[TX.place], "^%d+:%d+[%d:]*$") then return "its place is unknown" end
  if not string.find(tx[TX.state], "^[wrts]$") and not JOB[tx[TX.state]] and tx[TX.state] ~= "split" then
    return "its state is unknown"
  end
end

-- What is wrong with a transaction; nothing when it is whole. In the second place the name of its flow
-- where only that is not known: it may be defined again.
local function find_damage(key)
  local flat = redis.pcall("HGETALL", tx_key(key))
  if flat.err then return text_of(flat) end
  if not flat[1] then return "it is missing" end
  local tx = {}
  for i = 1, #flat, 2 do tx[flat[i]] = flat[i + 1] end
  local wrong = find_wrong_field(tx)
  if wrong then return wrong end
  local whole, failure = pcall(function()
    looks(tx[TX.memo])
    must_be("hash", job_key(tx[TX.job]))
  end)
  if not whole then return text_of(failure) end
  if redis.call("EXISTS", job_key(tx[TX.job])) == 0 then return "its job is not there" end
  local flow_name = flow_of(tx[TX.flows], tx[TX.step])
  if not flow_name or not string.find(flow_name, "^%d:.*:%x%x%x%x%x%x%x%x$") then
    return "its flow has no name"
  end
  if not pcall(read_flow, flow_name) then return "its flow " .. flow_name .. " is not defined", flow_name end
end

-- Notes that what has this name, behind the client's prefix, stands aside.
local function note_damage(name, why)
  if redis.pcall("HLEN", DAMAGED) ~= MOST_NOTED then
    redis.pcall("HSETNX", DAMAGED, name, string.format("%.0f ", now) .. why)
  end
end

-- A key of a wrong type moves aside, and what is to stand there begins anew.
local function clear_way(kind, name)
  local actual = redis.call("TYPE", base .. name).ok
  if actual == kind or actual == "none" then return end
  redis.call("RENAME", base .. name, base .. "damaged:" .. name)
  note_damage(name, "it is a " .. actual .. ", not a " .. kind)
end

local function clear_backlog(flow_name)
  clear_way("zset", "backlog:" .. flow_name .. ":due")
  clear_way("list", "backlog:" .. flow_name)
end

local function note_unknown_flow(flow_name)
  note_damage("flows " .. flow_name, "no flow of this name is defined")
end
