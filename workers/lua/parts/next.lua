-- What comes next in a transaction, a step or a part of one, was never sent: its keys are counted anew,
-- and no worker died under it. A step that is done once more, a read, is taken for such a one.
local function begin_next(key, crashes, generation, also)
  if generation then also("g0", generation) end
  if tonumber(crashes or 0) > 0 then
    also("cr", 0)
    if redis.call("HGET", GOV, "suspect") == key then redis.call("HDEL", GOV, "suspect") end
  end
end

-- Of a text with a line for each finished step the first n, each with its end. There are more of them
-- after a step back.
local function first_lines(text, n)
  return string.match((text or "") .. "\n", "^" .. string.rep("[^\n]*\n", n)) or (text or "") .. "\n"
end
