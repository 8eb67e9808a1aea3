-- Asking before a second send. What the next call of a step must know stands in the transaction's memo,
-- of which the scripts read the first letter only: "l" = the call that goes out is the look-up, "o" =
-- the provider takes the key no more, "s" = the batch is to be split.

-- The guard of a step, by its letter: the n-th of the list, or the only one when all steps share it.
local function guard_of(guards, step)
  return #guards == 1 and guards or string.sub(guards, step, step)
end

local function looks(memo) return string.byte(memo or "") == 108 end
local function refuses(memo) return string.byte(memo or "") == 111 end
local function splits(memo) return string.byte(memo or "") == 115 end

-- The flows with those of this step changed over, "now>then" to "then>now": a look-up is a call of its
-- own route, and charged to the limits of that.
local function changed_over(flows, step)
  local n = 0
  return (string.gsub(flows, "[^,]+", function(flow)
    n = n + 1
    return n == tonumber(step) and string.gsub(flow, "^(.+)>(.+)$", "%2>%1") or flow
  end))
end
