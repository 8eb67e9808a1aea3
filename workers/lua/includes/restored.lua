-- A store that came back from a backup: what was sent since is forgotten.
--
-- Expects  lookups
-- Gives    UNGUARDED, maybe_sent
--
-- A transaction of before has the moment of the backup as `b`, and each step that is still to come may
-- have been sent already.
local UNGUARDED = "it may have been sent after the backup was made, and nothing guards a second send"

-- What such a step goes by: its flows and its memo, by which it is asked about first under guard
-- `lookup`; and why it ends instead, where nothing guards it.
local function maybe_sent(guards, flows, step, memo)
  local guard = guard_of(guards, step)
  if guard == "n" then return flows, memo, UNGUARDED end
  if guard ~= "l" then return flows, memo end
  return looks(memo) and flows or changed_over(flows, step), LOOK_UP
end
