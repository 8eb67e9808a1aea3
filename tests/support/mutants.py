"""Lines broken on purpose, each as (file, old, new): with any of them `make test` must turn red."""

from __future__ import annotations

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """One broken line."""

    name: str
    file: str
    old: str
    new: str


MUTANTS: Final = (
    Mutant(
        "charge after send",
        "workers/lua/admit.lua",
        'redis.call("HSET", GOV, unpack(writes))',
        "-- charged by nobody before the send",
    ),
    Mutant(
        "settle without fence",
        "workers/lua/settle.lua",
        "or fence ~= ARGV[4] then",
        "then",
    ),
    Mutant(
        "bell without due time",
        "workers/lua/includes/bells.lua",
        'if #deadlines > 0 then redis.call("ZADD", DEADLINES, unpack(deadlines)) end',
        "-- nobody will miss it",
    ),
    Mutant(
        "send again without a look",
        "workers/lua/sweep.lua",
        'if guard == "l" and not looks(sent.memo) then',
        'if guard == "never" then',
    ),
    Mutant(
        "leases of permits not moved by a clock that is set back",
        "workers/lua/clock_rollback.lua",
        "move_keys(PERMITS)",
        "-- they end when that time comes again",
    ),
    Mutant(
        "a late answer of an older grant is recorded",
        "workers/lua/includes/late.lua",
        "if swept_fence ~= fence or tx.fence ~= fence or tx.step ~= step then return nil end",
        "if not swept_fence then return nil end",
    ),
    Mutant(
        "the sweep stops at a transaction that cannot be read",
        "workers/lua/sweep.lua",
        "local why, unknown_flow = find_damage(key)",
        "local why, unknown_flow",
    ),
    Mutant(
        "nobody sweeps where no worker runs",
        "workers/lua/acquire.lua",
        'if is_overdue(DEADLINES) then return {"SWEEP", 0} end',
        "-- somebody else will",
    ),
    Mutant(
        "random key",
        "workers/ledger/identity.py",
        'hmac.digest(secret, names, "sha256")[:16]',
        'hmac.digest(secrets.token_bytes(32), names, "sha256")[:16]',
    ),
)
