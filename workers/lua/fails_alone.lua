#!lua flags=no-writes
-- Tells a process that cannot connect to the provider whether that is a matter of its own.
--
-- KEYS[1]  prefix of the client
-- ARGV[1]  now_us   "" or an integer (tests)
-- ARGV[2]  process  who asks
-- Includes ways
-- Reads    gov, unconnected
-- Returns  1 = others can connect, 0 = nobody else can, or there is nobody else
-- Cost     O(fields of gov)
return fails_alone(ARGV[2]) and 1 or 0
