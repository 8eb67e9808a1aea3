-- Asking before a second send, and what else the next call of a step must know.
--
-- Expects  the prelude
-- Gives    LOOK_UP, guard_of, next_call, looks, needs_fresh_key, changed_over, other_flow_of
--
-- It stands in the transaction's memo, JSON that workers/answer/guards.py makes. The scripts read its `next`
-- only: "look-up" = the call that goes out is the look-up, "fresh key" = the provider takes the key no more,
-- "other request" = what would be sent is not what was sent under the key, "split" = the batch is to be
-- split; without it the step's own send goes out.

-- The memo of a step that is looked up although the wait before the first look-up is still to come.
local LOOK_UP = '{"next":"look-up"}'

-- The guard of a step, by its letter: the n-th of the list, or the only one when all steps share it.
local function guard_of(guards, step)
  return #guards == 1 and guards or string.sub(guards, step, step)
end

local function next_call(memo)
  return memo and memo ~= "" and cjson.decode(memo).next or "send"
end

local function looks(memo) return next_call(memo) == "look-up" end
local function needs_fresh_key(call) return call == "fresh key" or call == "other request" end

-- The flows with those of this step changed over, "now>then" to "then>now": a look-up is a call of its
-- own route, and charged to the limits of that.
local function changed_over(flows, step)
  local nth = 0
  return (string.gsub(flows, "[^,]+", function(flow)
    nth = nth + 1
    return nth == tonumber(step) and string.gsub(flow, "^(.+)>(.+)$", "%2>%1") or flow
  end))
end

-- The other flow of a step that is looked up; of any other step the one that it has.
local function other_flow_of(flows, step) return flow_of(changed_over(flows, step), step) end
