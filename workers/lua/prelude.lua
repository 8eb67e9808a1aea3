-- Stands in front of all scripts in their library: the names and the clock. The parts that a script
-- names in its header, in parts/, come between the two.
--
-- The library is loaded once and called often. So at the outer level of this file and of a part stand
-- constants (`local NAME = …`), functions, and variables that are only declared (`local name`). What
-- these hold is one call's own: the function start_<file> sets each of them before every call. A script
-- needs no such care, its whole text is a function. Only KEPT outlives a call.
--
-- KEYS[1] is the client's prefix "<namespace>:{<client>}:"; all other names are built from it and
-- share its hash tag. ARGV[1] is now_us: "" = this server's clock (production), an integer in tests.
-- Times are integers in us below 2^53. A transaction is a hash; its fields are named in
-- workers/ledger/ledger.py. A flow's definition is made in workers/governor/flows.py.
local base, GOV, FLOWS, TOUCH, RETRIES, SUSPECTS, ACTIVE, HUNGRY, GUESTS, now

local function start_prelude(KEYS, ARGV)
  base = KEYS[1]
  GOV, FLOWS, TOUCH, RETRIES = base .. "gov", base .. "flows", base .. "touch", base .. "retries"
  SUSPECTS, ACTIVE, HUNGRY = base .. "suspects", base .. "active", base .. "hungry"
  GUESTS = base .. "guests"
  now = tonumber(ARGV[1])
  if not now then
    local time = redis.call("TIME")
    now = time[1] * 1000000 + time[2]
  end
end

local function tx_key(key) return base .. "tx:" .. key end
local function line_key(flow) return base .. "line:" .. flow end
local function job_key(job) return base .. "job:" .. job end

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

-- What a flow's definition says. It is kept decoded, for later calls of all scripts: nobody changes it.
local KEPT = {flows = {}, size = 0, names = {}, named = 0}
local function decode(definition)
  local flow = KEPT.flows[definition]
  if not flow then
    if KEPT.size == 1000 then KEPT.flows, KEPT.size = {}, 0 end
    flow = cjson.decode(string.match(definition, "^[^\n]*"))
    KEPT.flows[definition], KEPT.size = flow, KEPT.size + 1
  end
  return flow
end

local function read_flow(flow) return decode(redis.call("HGET", FLOWS, flow)) end
