-- The transaction of a batch to which one of its rows belongs now: halves of halves, if it was split.
local function holder_of(key, row)
  while redis.call("HGET", tx_key(key), "s") == "split" do
    local second, first_key, second_key = string.match(redis.call("HGET", tx_key(key), "h"), "(%d+) (%S+) (%S+)")
    key = row < tonumber(second) and first_key or second_key
  end
  return key
end
