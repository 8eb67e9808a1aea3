#!lua flags=allow-oom
-- Forgets a write of a task that was surely not executed, unless another run of the task has begun it too.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us  "" or an integer (tests)
-- ARGV[2]  task    as given to begin_write
-- ARGV[3]  key     idempotency key of the write
-- Reads    writes:<task>; writes writes:<task>
-- Returns  1 = forgotten, 0 = it is kept
-- Cost     O(1), 2 commands
local name = base .. "writes:" .. ARGV[2]
local known = redis.call("HGET", name, ARGV[3])
if not known or string.find(known, " again$") then return 0 end
return redis.call("HDEL", name, ARGV[3])
