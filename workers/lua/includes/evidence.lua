-- Whose fault a bad answer is, the provider's or the row's: what others were answered in the same scope.
--
-- Expects  breaker
-- Gives    EVIDENCE, HEALTHY, OPEN_AFTER; ATTEMPT, TOKEN, is_troubled, plan_evidence, keep_evidence
--
-- Kept are the newest WINDOW answers of a scope that were good or bad, none older than OLDEST, and only while
-- a bad one is among them: where nothing is kept, all is well. A bad answer counts as one attempt of its row
-- where at least nine in ten answers to other rows were good, as an eighth of one where at least a third was,
-- and else not at all, nor where fewer than LEAST are known. When so many rows as OPEN_AFTER says were
-- answered badly at their first send, with nothing good between, the scope fails: its breaker opens. Later
-- sends open nothing, or rows that always fail would hold their scope for ever.
--
-- What a 401 says concerns the client, whose scope is TOKEN here: its breaker opens sooner, after as many
-- rows as OPEN_TOKEN_AFTER says, where no good answer is known at all.
--
-- The hash evidence has of each scope one text: the bad first sends in a row, since when nothing was good,
-- and the answers, the oldest first: the second, and + or - with the end of the row's key; on a line of its
-- own, what went wrong last.
--
-- The hash healthy has of each scope that was troubled the second at which its newest answers were all good
-- again: a bad answer that comes soon after is weighed against these.
local EVIDENCE, HEALTHY
local function start_evidence() EVIDENCE, HEALTHY = base .. "evidence", base .. "healthy" end
local OPEN_AFTER = 16
local WINDOW, OLDEST, LEAST, OPEN_TOKEN_AFTER = 32, 600, 8, 4
-- No limit and no route has this name.
local TOKEN = "token:"
-- An attempt, in the eighths in which attempts are counted.
local ATTEMPT = 8

-- Whether any scope of the client has bad answers.
local function is_troubled() return redis.call("EXISTS", EVIDENCE) == 1 end

local function was_good(answer) return string.sub(answer, -1) == "+" end

local function count_good(answers)
  local good = 0
  for _, answer in ipairs(answers) do good = good + (was_good(answer) and 1 or 0) end
  return good
end

-- What an answer to `holder` counts, by the answers to others.
local function weigh(answers, own)
  local good, others = count_good(answers), 0
  for _, answer in ipairs(answers) do
    if string.match(answer, "%-.*$") ~= own then others = others + 1 end
  end
  if others < LEAST then return 0 end
  if good * 10 >= others * 9 then return ATTEMPT end
  return good * 3 >= others and 1 or 0
end

local function read_answers(texts, second)
  local answers = {}
  for second_of, answer in string.gmatch(texts, "(%d+)([+-]%S*)") do
    if second - second_of <= OLDEST then answers[#answers + 1] = second_of .. answer end
  end
  return answers
end

-- What is kept once the answer is added; nothing when all that is known is good.
local function format_answers(answers, run, since, why)
  while #answers > WINDOW do table.remove(answers, 1) end
  if count_good(answers) == #answers then return nil end
  return run .. " " .. since .. " " .. table.concat(answers, " ") .. "\n" .. why
end

-- Reads what follows from a good or bad answer to `holder`, before the first write: what is kept of the
-- scope, what the answer counts, in eighths of an attempt, and whether the scope fails. `answer` is as
-- feedback.lua has it.
local function plan_evidence(scope, holder, answer)
  local is_good = answer.came_to == "good"
  local stored = redis.call("HGET", EVIDENCE, scope)
  if is_good and not stored then return {weight = 0} end
  local run, since, texts, why = string.match(stored or "", "^(%d+) (%d+) ([^\n]*)\n(.*)$")
  local second, own = math.floor(now / 1000000), "-" .. string.sub(holder, -8)
  local healthy = not stored and tonumber(redis.call("HGET", HEALTHY, scope))
  if healthy then texts = string.rep(healthy .. "+ ", WINDOW - 1) end
  local answers = read_answers(texts or "", second)
  local weight = not stored and ATTEMPT or is_good and 0 or weigh(answers, own)
  run = is_good and 0 or (tonumber(run) or 0) + (answer.is_first and 1 or 0)
  if #answers == 0 or was_good(answers[#answers]) then since = string.format("%.0f", now) end
  answers[#answers + 1] = second .. (is_good and "+" or own)
  local is_token = scope == TOKEN and count_good(answers) == 0
  local fails = not is_good and run >= (is_token and OPEN_TOKEN_AFTER or OPEN_AFTER)
  if fails then
    must_be("hash", breaker_key(scope == TOKEN and "client" or scope))
    must_be("hash", breaker_key("client"))
  end
  why = not is_good and answer.error or why or ""
  local text = format_answers(answers, run, since, why)
  if not text then must_be("hash", HEALTHY) end
  return {scope = scope, text = text, weight = weight, fails = fails, why = why}
end

local function keep_evidence(plan)
  if plan.text then redis.call("HSET", EVIDENCE, plan.scope, plan.text)
  elseif plan.scope then
    redis.call("HDEL", EVIDENCE, plan.scope)
    redis.call("HSET", HEALTHY, plan.scope, math.floor(now / 1000000))
  end
  if plan.fails then open_breaker(plan.scope == TOKEN and "client" or plan.scope, "failing", plan.why) end
end
