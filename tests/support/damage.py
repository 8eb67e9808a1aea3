"""A client whose keys can be damaged one by one: the whole of what is stored, kept and put back."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.support.rig import APP, LATER, LEASE_US, RETRY, Rig, S
from tests.support.stored import a_job
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Outcome
from workers.answer.verdict import Requeue, to_json
from workers.errors import LedgerDamaged, StoreReplaced
from workers.governor import flows
from workers.governor.governor import Governor
from workers.settings.limits import LimitSettings
from workers.settings.load import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

FEW: Final = LimitSettings(name="few", count=9, shape="concurrent")
#: What no field holds.
GARBAGE: Final = "no{such}thing"
#: What stands in every field of a hash at once, by the kind of its damage, and of which hashes.
EVERYWHERE: Final = {"NaN": "nan", "infinity": "1e400", "nesting": "[" * 100_000, "bytes": b"\xff"}
TRIED: Final = (
    ("NaN", "gov"),
    ("infinity", "gov"),
    ("NaN", "tx"),
    ("bytes", "tx"),
    ("nesting", "flows"),
)
#: What damage of other kinds leaves: JSON that is nested too deeply, JSON of another type, numbers
#: that no calculation survives, and no text at all.
CONTENTS: Final[tuple[str, ...]] = (
    "",
    "[" * 100_000,
    '{"a":' * 100_000,
    "1e400",
    "9" * 400,
    "9" * 5000,
    "-1",
    "nan",
    "\N{SUPERSCRIPT TWO}",
    "null",
    "[null]",
    '["a", 1]',
    '{"at_us": 1e400, "limits": [[1e400]], "values": 1, "serial": "x", "clients": {"acme": []}}',
)
#: The same in a field of the store, with bytes that are no UTF-8 among them.
STORED: Final[tuple[bytes, ...]] = (b"\xff\xfe\x80", *(text.encode() for text in CONTENTS))
#: A batch that is to be split.
TO_BE_SPLIT: Final = Requeue(
    outcome=Outcome.NOT_EXECUTED, attempt=True, status=400, memo=Memo(next=NextCall.SPLIT)
)


#: Each name with its dump, or with the fields of a hash.
_CONTENT: Final = """
local all = {}
for i, name in ipairs(redis.call("KEYS", ARGV[1] .. "*")) do
  local is_hash = redis.call("TYPE", name).ok == "hash"
  local fields = is_hash and redis.call("HGETALL", name) or {}
  all[i] = {name, is_hash and "" or redis.call("DUMP", name), fields}
end
return all
"""


class Damage(NamedTuple):
    """One thing that is wrong."""

    kind: str  #: "wrong type", "missing", "garbage", "unknown member", or one of EVERYWHERE
    key: str  #: behind the client's prefix
    field: str = ""  #: of a hash; "" = the whole key

    def __str__(self) -> str:
        return f"{self.kind}: {self.key} {self.field}".strip()


class Ledger:
    """One client in which every state of a transaction stands, with a clock that is held."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rig = rig = Rig(store, APP, FEW)
        # j1: rung, sent, counting down, due later, in quarantine, new, and some more that wait
        self.keys = rig.line_up(9, "POST /x", "POST /x", guards="k")
        rig.fill()
        rig.ring(threads=4)
        self.rung, self.sent, counting, later, crashed, *_ = self.keys
        rig.fill()
        rig.ring(threads=8)
        rig.serve(counting, verdict=RETRY)
        rig.serve(later, verdict=LATER)
        rig.grant(crashed)
        rig.us += LEASE_US
        rig.governor.sweep()
        for _ in range(40):
            rig.ring()
            if rig.state(self.sent) == rig.state(self.rung) == rig.state(counting) == "r":
                break
        self.admit(self.sent, "held")
        self.admit(counting, "again")
        rig.governor._run("settle", counting, 1, "again", to_json(RETRY), 3 * S)
        rig.accept(2)  # j2: its page waits to be opened
        rig.ledger.begin(a_job("j3", low=1))
        flow = flows.flow(rig.client, 1, "-", "POST /x").id
        self.flow = flow
        stored = str(store.hget(rig.keys.flows, flow))
        self.definition: dict[str, Any] = json.loads(stored.partition("\n")[0])
        self.scope: str = self.definition["scope"]
        rig.fill()
        assert rig.governor._run("acquire", "permit", flow, LEASE_US, S)[0] == "GO"
        rig.ring(threads=1)
        rig.fill()

    @property
    def prefix(self) -> str:
        """Before every name."""
        return self.rig.keys.prefix

    def snapshot(self) -> dict[str, bytes]:
        """Everything that is stored."""
        names: Any = self.store.keys(self.prefix + "*")
        pipe = self.store.pipeline(transaction=False)
        for name in names:
            pipe.execute_command("DUMP", name, NEVER_DECODE=True)
        return dict(zip(names, pipe.execute(), strict=True))

    def content(self) -> dict[str, Any]:
        """Everything that is stored, as it can be compared: a large hash is dumped in any order."""
        flat: Any = self.store.execute_command("EVAL", _CONTENT, 0, self.prefix, NEVER_DECODE=True)
        return {
            name.decode(): frozenset(zip(kept[::2], kept[1::2], strict=True)) if kept else dump
            for name, dump, kept in flat
        }

    def restore(self, kept: dict[str, bytes], at_us: int) -> None:
        """Put back everything that was stored, at this moment.

        A store that goes back in its grants begins with a quiet time (lua/includes/run.lua): here
        it is over.
        """
        rig, newest = self.rig, self._newest_grant()
        self._put(kept)
        if newest != self._newest_grant():
            rig.us = at_us - 5 * S
            self.store.hset(rig.keys.transaction(self.rung), mapping={"s": "r", "k": 1})
            with suppress(StoreReplaced):  # a client that is stopped
                self.admit(self.rung, "quiet")
            self._put(kept)
        rig.us = at_us
        rig.governor = Governor(self.store, rig.keys, rig.client, WorkerSettings(), rig.clock)

    def _newest_grant(self) -> object:
        with suppress(LedgerDamaged):
            return self.store.hget(self.rig.keys.governor, "sent")
        return "of another kind"

    def admit(self, key: str, fence: str) -> object:
        """Ask for a grant of the first step."""
        kept_us = 9 * 3600 * S
        return self.rig.governor._run("admit", key, 1, fence, LEASE_US, kept_us, "", "client")

    def _put(self, kept: dict[str, bytes]) -> None:
        pipe = self.store.pipeline(transaction=False)
        names: Any = self.store.keys(self.prefix + "*")
        if names:
            pipe.unlink(*names)
        for name, dump in kept.items():
            pipe.restore(name, 0, dump)
        pipe.execute()

    def fields(self) -> dict[str, list[str]]:
        """Each key behind the prefix, with its fields where it is a hash."""
        names: Any = self.store.keys(self.prefix + "*")
        kinds = {name: str(self.store.type(name)) for name in names}
        return {
            name.removeprefix(self.prefix): self.store.hkeys(name) if kind == "hash" else []  # type: ignore[misc]
            for name, kind in kinds.items()
        }

    def damages(self, after: dict[str, list[str]]) -> Iterator[Damage]:
        """Everything that may be wrong with what stands here, or comes in a good run."""
        before = self.fields()
        for kind, key in TRIED:
            yield Damage(kind, f"tx:{self.sent}" if key == "tx" else key)
        for key in sorted({*before, *after}):
            yield Damage("wrong type", key)
            if key in before:
                yield Damage("missing", key)
            kind = self.store.type(self.prefix + key)
            if kind in {"zset", "set", "list"}:
                yield Damage("unknown member", key)
            for field in sorted({*before.get(key, []), *after.get(key, [])}):
                yield Damage("garbage", key, field)
                if field in before.get(key, []):
                    yield Damage("missing", key, field)

    def damage(self, what: Damage) -> None:
        """Make it so."""
        name, store = self.prefix + what.key, self.store
        kind = store.type(name)
        if what.kind == "wrong type":
            store.delete(name)
            if kind == "string":
                store.hset(name, "of", "another kind")
            else:
                store.set(name, "of another kind")
        elif what.kind == "missing":
            store.hdel(name, what.field) if what.field else store.delete(name)
        elif what.kind == "garbage":
            store.hset(name, what.field, GARBAGE)
        elif what.kind in EVERYWHERE:
            every: Any = store.hkeys(name)
            store.hset(name, mapping=dict.fromkeys(every, EVERYWHERE[what.kind]))
        elif kind == "zset":
            store.zadd(name, {GARBAGE: 1})
        elif kind == "set":
            store.sadd(name, GARBAGE)
        else:
            store.lpush(name, GARBAGE)
