-- What a scope keeps of its answers of 429, for own_refusals.lua.
--
-- Expects  evidence, refused_row
-- Gives    ENOUGH, read_record, format_record, read_counts
--
-- The hash evidence has under REFUSED + scope what is counted from a refusal on until ENOUGH calls were
-- answered well:
--   sent    number that a grant had when the scope was held last: all of later ones are greater
--   good    calls that were granted later and answered well, ever
--   fresh   rows that were refused for the first time, ever
--   run     of these in a row, nothing good between
--   seen    `good` at the newest refusal
--   pause   how long the scope was held last
--   holder  end of the key of the row that was refused last
-- From then on the hash healthy has good and fresh there, which are counted on at the next refusal.
local ENOUGH = 8

local function read_record(name)
  local sent, good, fresh, run, seen, pause, holder = string.match(redis.call("HGET", EVIDENCE, name) or "",
    "^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+)$")
  return sent and {sent = tonumber(sent), good = tonumber(good), fresh = tonumber(fresh), run = tonumber(run),
    seen = tonumber(seen), pause = tonumber(pause), holder = holder}
end

local function format_record(record)
  return string.format("%.0f %.0f %.0f %.0f %.0f %.0f %s", record.sent, record.good, record.fresh, record.run,
    record.seen, record.pause, record.holder)
end

-- The counts of a scope in which no refusal is open.
local function read_counts(name)
  local good, fresh = string.match(redis.call("HGET", HEALTHY, name) or "", "^(%d+) (%d+)$")
  return tonumber(good) or 0, tonumber(fresh) or 0
end
