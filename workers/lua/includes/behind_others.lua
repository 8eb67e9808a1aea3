-- Rows that were refused by a 429 go again behind others: a hold that ends with the row that brings the next
-- one would let nobody through, and nobody could show whose fault the refusals are.
--
-- Expects  refused_row, tick, capacity, bells
-- Gives    is_due_next, let_others_go, take_due
--
-- While a refusal of their scope is open OTHERS rows go before one that was refused: rows that are due for
-- another reason, then those that never went. They may be of any tenant and in any lane. Where none of these
-- waits and may go it goes at once. No refusal is open where gov has no count of others.
local OTHERS = 8
-- So many of a backlog that are due are looked at.
local MOST_DUE = 128

-- Parts what is due of a backlog into rows that were refused and others, the earliest last. That is done once
-- a ring, and again where all of these went.
local function part_due(backlog)
  if backlog.refused and (#backlog.refused + #backlog.others > 0 or backlog.due == 0) then return end
  backlog.refused, backlog.others = {}, {}
  local due = redis.call("ZRANGEBYSCORE", backlog.key .. ":due", "-inf", now, "LIMIT", 0, MOST_DUE)
  for i = #due, 1, -1 do
    local is_whole, tx = pcall(read_tx, due[i], "step refused")
    local was_refused = is_whole and parse_refused(tx.refused, tx.step, backlog.scope)
    local rows = was_refused and backlog.refused or backlog.others
    rows[#rows + 1] = due[i]
  end
end

-- The rows of which one that is due goes next; nothing where one goes that never went. `others` is the field
-- of gov that counts others.
local function rows_next(backlog, others)
  if backlog.due == 0 then return nil end
  part_due(backlog)
  local refused = backlog.refused[1] and backlog.refused
  if refused and number(others) >= OTHERS then return refused end
  return backlog.others[1] and backlog.others or backlog.new == 0 and refused or nil
end

-- Whether one that is due goes next in a backlog.
local function is_due_next(backlog)
  local others = REFUSED .. backlog.scope
  if not gov[others] then return backlog.due > 0 end
  return rows_next(backlog, others) ~= nil
end

-- Lets a backlog in which nothing may go but rows that were refused sit out this ring, where others of its
-- scope may go instead: as `tenants` says, with the backlogs of each.
local function let_others_go(tenants)
  local have_others, backlogs = {}, {}
  for _, tenant in ipairs(tenants) do
    for _, backlog in ipairs(tenant.backlogs) do
      local others = REFUSED .. backlog.scope
      if gov[others] and number(others) < OTHERS then
        if backlog.due > 0 then part_due(backlog) end
        if backlog.new == 0 and not backlog.others[1] then backlogs[#backlogs + 1] = backlog
        elseif available(backlog.flow_name, tenant.lane) > 0 then have_others[backlog.scope] = true
        end
      end
    end
  end
  for _, backlog in ipairs(backlogs) do backlog.sits_out = have_others[backlog.scope] end
end

-- Takes the one that is due and goes next out of a backlog; nothing where one goes that never went.
local function take_due(backlog)
  local others, key = REFUSED .. backlog.scope, nil
  if gov[others] then
    local rows = rows_next(backlog, others)
    gov[others] = rows and rows == backlog.refused and 0 or math.min(number(others) + 1, OTHERS)
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
