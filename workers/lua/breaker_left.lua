#!lua
-- Says how long a breaker holds a call from outside of jobs; it decides nothing, acquire.lua does.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  flow    name of the call's flow
-- Includes wake (need_ring: when somebody is to ring)
-- Includes counter, bucket, breaker (open_scope)
-- Reads    flows, gov
-- Returns  how long no probe may go, in us; 0 = one may go now; -1 = no breaker is open. Of a flow that is
--          not defined yet the client's breaker alone is known
-- Cost     O(1), 2 commands
local definition = redis.call("HGET", FLOWS, ARGV[2])
local flow = definition and decode(definition) or {scope = "client"}
local client, own = unpack(redis.call("HMGET", GOV, "k:client", "k:" .. flow.scope))
local _, probe_from = open_scope(flow, client, own)
return probe_from and math.max(probe_from - now, 0) or -1
