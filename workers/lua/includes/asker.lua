-- Whether a step is for whoever answers its bell. A message names; the ledger decides.
--
-- Expects  the prelude, bucket
-- Gives    is_for
--
-- An asker says the kind of the jobs that it serves, and what it does: "client" = calls, or "pool:<pool>" =
-- local steps in a worker of this pool. A forged bell may name a task of another kind,
-- or lie in another queue.

local function is_for(kind, does, job, limits)
  if kind == "" then return true end
  return pool_of(limits) == does and redis.call("HGET", job_key(job), JOB["params.kind"]) == kind
end
