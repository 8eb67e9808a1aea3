-- Counters in a hash.
--
-- Expects  the prelude
-- Gives    add_to

-- Adds to a counter of a hash; returns what it is then. One that holds no integer starts anew: a script must
-- not stop where it has begun to write.
local function add_to(key, field, change)
  local count = redis.pcall("HINCRBY", key, field, change)
  if type(count) == "number" then return count end
  redis.call("HSET", key, field, math.max(0, tonumber(change)))
  return math.max(0, tonumber(change))
end
