-- What comes next in a transaction, a step or a part of one, was never sent: its keys are counted anew,
-- and no worker died under it.
local function begin_next(key, crashes, generation, also)
  if generation then also("g0", generation) end
  if tonumber(crashes or 0) > 0 then
    also("cr", 0)
    if redis.call("HGET", GOV, "suspect") == key then redis.call("HDEL", GOV, "suspect") end
  end
end
