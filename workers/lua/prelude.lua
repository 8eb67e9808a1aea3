-- Put in front of every script at load: the names and the clock. The parts that a script names in its
-- header, in parts/, come between the two.
--
-- KEYS[1] is the client's prefix "<namespace>:{<client>}:"; all other names are built from it and
-- share its hash tag. ARGV[1] is now_us: "" = this server's clock (production), an integer in tests.
-- Times are integers in us below 2^53. A transaction is a hash; its fields are named in
-- workers/ledger.py. A flow's definition is made in workers/flows.py.
local base = KEYS[1]
local GOV, FLOWS, TOUCH, RETRIES = base .. "gov", base .. "flows", base .. "touch", base .. "retries"
local SUSPECTS, ACTIVE, HUNGRY = base .. "suspects", base .. "active", base .. "hungry"
local GUESTS = base .. "guests"
local function tx_key(key) return base .. "tx:" .. key end
local function line_key(flow) return base .. "line:" .. flow end
local function job_key(job) return base .. "job:" .. job end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call("TIME")
  now = time[1] * 1000000 + time[2]
end

-- A store's clock that is so far behind the last ring was set back.
local SET_BACK = 1000000

-- A script does not roll back: a key of a wrong type must stop it before its first write. What a
-- script reads first needs no such look, for reading fails as well; what it only writes does.
local function must_be(kind, name)
  local found = redis.call("TYPE", name).ok
  if found ~= kind and found ~= "none" then
    error(name .. " is a " .. found .. ", not a " .. kind)
  end
end

-- The flow of a step: the n-th of the list, or the only one when all steps share it. Of a step that
-- has two, "now>then", it is the one by which its next call goes.
local function flow_of(flows, step)
  if not string.find(flows, "[,>]") then return flows end
  local n = 0
  for flow in string.gmatch(flows, "[^,]+") do
    n = n + 1
    if n == tonumber(step) then return string.match(flow, "^[^>]+") end
  end
end

local function read_flow(flow)
  return cjson.decode(string.match(redis.call("HGET", FLOWS, flow), "^[^\n]*"))
end
