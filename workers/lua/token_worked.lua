#!lua
-- Says that the token works: a call which was refused came back and was answered, or many were answered.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us    "" or an integer (tests)
-- ARGV[2]  good      answers in a row to calls of the caller, none of which was refused; 0 = one that was
-- ARGV[3]  least     so many take back a first renewal after a refusal, twice as many each further one; only
--                    where a call that was refused came back and was answered with this token
-- Reads    oauth; writes oauth
-- Returns  how many renewals are not forgotten
-- Cost     O(1)
local OAUTH, good = base .. "oauth", tonumber(ARGV[2])
must_be("hash", OAUTH)
local renewals, asked, worked = unpack(redis.call("HMGET", OAUTH, "renewals", "asked_us", "worked_us"))
renewals = tonumber(renewals) or 0
local has_worked = (tonumber(worked) or 0) >= (tonumber(asked) or 0)
if good == 0 then redis.call("HSET", OAUTH, "worked_us", now)
elseif has_worked and renewals > 0 and good >= tonumber(ARGV[3]) * 2 ^ (renewals - 1) then
  renewals = renewals - 1
  redis.call("HSET", OAUTH, "renewals", renewals)
end
return renewals
