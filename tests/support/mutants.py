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
        "random key",
        "workers/ledger/identity.py",
        'hmac.digest(secret, names, "sha256")[:16]',
        'hmac.digest(secrets.token_bytes(32), names, "sha256")[:16]',
    ),
    Mutant(
        "bell of any kind",
        "workers/lua/includes/asker.lua",
        'if kind == "" then return true end',
        "if true then return true end",
    ),
    Mutant(
        "bell in any pool",
        "workers/lua/includes/asker.lua",
        "return pool_of(limits) == does and",
        "return",
    ),
    Mutant(
        "names of any type",
        "tasks/steps/bell.py",
        "if not more and type(step) is int",
        "if not more",
    ),
    Mutant(
        "queues without a namespace",
        "workers/broker/names.py",
        'return f"{namespace}.{pool}"',
        "return pool",
    ),
    Mutant(
        "control that nobody signed",
        "workers/broker/control.py",
        "self.mailbox.signer.require_signed(command)",
        "pass",
    ),
    Mutant(
        "signature taken twice",
        "workers/broker/signing.py",
        "if nonce in self._taken:",
        "if not nonce:",
    ),
    Mutant(
        "signature from before a restart",
        "workers/broker/signing.py",
        "if signed_s < self._started_s or",
        "if",
    ),
)
