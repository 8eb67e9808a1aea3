-- The place of the one transaction of the quarantine that is out.
--
-- Expects  wake
-- Gives    is_from_quarantine, free_quarantine, leave_quarantine

local function is_from_quarantine(key) return redis.call("HGET", GOV, "quarantined") == key end

-- The next transaction of the quarantine may go.
local function free_quarantine()
  redis.call("HDEL", GOV, "quarantined")
  if redis.call("EXISTS", QUARANTINE) == 1 then need_ring(now) end
end

-- Frees the place if this transaction has it.
local function leave_quarantine(key)
  if is_from_quarantine(key) then free_quarantine() end
end
