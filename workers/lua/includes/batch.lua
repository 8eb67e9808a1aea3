-- Batches that were split.
--
-- Expects  the prelude
-- Gives    holder_of

-- The transaction of a batch to which one of its rows belongs now: halves of halves, if it was split.
local function holder_of(key, row)
  while redis.call("HGET", tx_key(key), TX.state) == "split" do
    local halves = redis.call("HGET", tx_key(key), TX.halves)
    local second_row, first_key, second_key = string.match(halves, "(%d+) (%S+) (%S+)")
    key = row < tonumber(second_row) and first_key or second_key
  end
  return key
end
