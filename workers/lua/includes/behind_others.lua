-- Rows that were refused by a 429 go again behind others: a hold that ends with the row that brings the next
-- one would let nobody through, and nobody could show whose fault the refusals are.
--
-- Expects  refused_row, tick, bells
-- Gives    is_due_next, take_due
--
-- While a refusal of their scope is open OTHERS rows go before one that was refused: rows that are due for
-- another reason, then those that never went. Where none of these wait in its backlog it goes at once. No
-- refusal is open where gov has no count of others (tick.lua).
local OTHERS = 8
-- So many of a backlog that are due are looked at, and so many in a ring. What is not looked at goes as
-- others do.
local MOST_DUE, MOST_LOOKS = 128, 512
local looks
local function start_behind_others() looks = 0 end

-- Whether the newest 429 of a row is of its step and this scope.
local function was_refused(key, scope)
  local is_whole, tx = pcall(read_tx, key, "step refused")
  return is_whole and parse_refused(tx.refused, tx.step, scope)
end

-- Parts what is due of a backlog into rows that were refused and others, the earliest last. That is done once
-- a ring, and again where all of these went.
local function part_due(backlog)
  if backlog.refused and (#backlog.refused + #backlog.others > 0 or backlog.due == 0) then return end
  backlog.refused, backlog.others = {}, {}
  local due = redis.call("ZRANGEBYSCORE", backlog.key .. ":due", "-inf", now, "LIMIT", 0, MOST_DUE)
  local looks_at_them = looks + #due <= MOST_LOOKS
  if looks_at_them then looks = looks + #due end
  for i = #due, 1, -1 do
    local rows = looks_at_them and was_refused(due[i], backlog.scope) and backlog.refused or backlog.others
    rows[#rows + 1] = due[i]
  end
end

-- The rows of which one that is due goes next; nothing where one goes that never went. `others` is the field
-- of gov that counts others.
local function rows_next(backlog, others)
  if backlog.due == 0 then return nil end
  part_due(backlog)
  local refused = backlog.refused[1] and backlog.refused
  if refused and read_others(others) >= OTHERS then return refused end
  return backlog.others[1] and backlog.others or backlog.new == 0 and refused or nil
end

-- Whether one that is due goes next in a backlog.
local function is_due_next(backlog)
  local others = REFUSED .. backlog.scope
  if not gov[others] then return backlog.due > 0 end
  return rows_next(backlog, others) ~= nil
end

-- Takes the one that is due and goes next out of a backlog; nothing where one goes that never went.
local function take_due(backlog)
  local others, key = REFUSED .. backlog.scope, nil
  if gov[others] then
    local rows = rows_next(backlog, others)
    local count, refused_us = read_others(others)
    count = rows and rows == backlog.refused and 0 or math.min(count + 1, OTHERS)
    gov[others] = string.format("%d %.0f", count, refused_us)
    set_value(others, gov[others])
    key = rows and table.remove(rows)
  elseif backlog.due > 0 then
    key = redis.call("ZRANGEBYSCORE", backlog.key .. ":due", "-inf", now, "LIMIT", 0, 1)[1]
  end
  if not key then return nil end
  redis.call("ZREM", backlog.key .. ":due", key)
  backlog.due = backlog.due - 1
  return key
end
