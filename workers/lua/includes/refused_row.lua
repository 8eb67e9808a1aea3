-- What a row knows of its newest refusal by a 429.
--
-- Expects  the prelude
-- Gives    REFUSED, parse_refused
--
-- A row has the step, both counts of that time (refusal_record.lua), how often it was refused for itself, and
-- the scope.
--
-- Under REFUSED + scope the hashes evidence and healthy have what is counted of the refusals of a scope; and
-- gov, while one is open, how many others went since a row that was refused there (behind_others.lua). No
-- limit and no route has a name that begins so.
local REFUSED = "429:"

-- Both counts, and how often it was refused for itself, by `text`, the refused of its transaction; nothing
-- where it was not refused in this step and scope.
local function parse_refused(text, step, scope)
  local own_step, good, fresh, times, own_scope =
    string.match(text or "", "^(%d+) (%d+) (%d+) (%d+) (.*)$")
  if own_step and tonumber(own_step) == tonumber(step) and own_scope == scope then
    return tonumber(good), tonumber(fresh), tonumber(times)
  end
end
