-- What a store that came back from a backup does not know: which calls were sent after the backup was made.
--
-- Expects  lookups
-- Gives    UNGUARDED, maybe_sent
--
-- A transaction that is older than the backup has the moment of the backup as backup_us. Each of its steps
-- that is still to come may have been sent already, after the backup was made.
local UNGUARDED = "it may have been sent after the backup was made, and nothing guards a second send"

-- Returns the flows and the memo with which such a step goes on: under guard `lookup` it is looked up first.
-- Where no guard makes a second send harmless, returns in the third place why the transaction ends.
local function maybe_sent(guards, flows, step, memo)
  local guard = guard_of(guards, step)
  if guard == "n" then return flows, memo, UNGUARDED end
  if guard ~= "l" then return flows, memo end
  return looks(memo) and flows or changed_over(flows, step), LOOK_UP
end
