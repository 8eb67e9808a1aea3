-- Batches that were split.
--
-- Expects  the prelude
-- Gives    holder_of, check_holder

-- The transaction of a batch to which one of its rows belongs now: halves of halves, if it was split.
local function holder_of(key, row)
  while redis.call("HGET", tx_key(key), TX.state) == "split" do
    local halves = redis.call("HGET", tx_key(key), TX.halves)
    local second_row, first_key, second_key = string.match(halves, "(%d+) (%S+) (%S+)")
    key = row < tonumber(second_row) and first_key or second_key
  end
  return key
end

-- Fails where a row joins a transaction that cannot be read; those of `own` are not stored yet.
local function check_holder(key, own)
  local tx = read_tx(key, "state rows")
  local is_open = tx.state and #tx.state == 1
  if not own[key] and (not tonumber(tx.rows or 1) or not is_open and not JOB[tx.state]) then
    error("the transaction " .. key .. ", which a row joins, cannot be read")
  end
end
