"""What is done of a transaction, and where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.kinds.registry import find_kind
from orchestration.views.pages import page_of
from tasks.genesys.campaigns import LOAD, child_of
from workers.ledger.batch import Place, taken
from workers.ledger.ledger import ENDED, FINAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.kind import Planned
    from workers.clients import Client
    from workers.ledger.ledger import Row


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step, or the finished parts of one."""

    step: str  #: its name, or "step 2" where it has none; "" of a single step
    id: str | None  #: what the provider calls its result; None: the answer did not say
    parts: int | None = None  #: of a step with parts: how many are finished
    of: int | None = None  #: and how many there are

    def __str__(self) -> str:
        if self.parts:
            return f"{self.step} {self.parts} of {self.of} parts".lstrip()
        return f"{self.step} {self.id}" if self.id else self.step


@dataclass(frozen=True, slots=True)
class Loaded(Done):
    """The contacts of a campaign: `id` is their job, `parts` of them are at the provider."""

    def __str__(self) -> str:
        return f"{self.step} {self.id}: {self.parts or 0:,} of {self.of or 0:,}"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a transaction as they stand."""

    count: int
    at: int  #: the step that is next, out, or where it stopped; 1-based
    name: str  #: of that step, "" = none
    done: Sequence[Done]  #: the steps that are finished, in their order, and parts of the next

    @property
    def place(self) -> str:
        """Such as " at step 3 of 4 (activate)"; "" for a single step."""
        if self.count == 1:
            return ""
        name = f" ({self.name})" if self.name else ""
        return f" at step {self.at} of {self.count}{name}"

    def stopped(self, state: str, why: str) -> str:
        """One sentence: how the transaction ended, where, what is done, and why."""
        done = f"; done: {told(self.done)}" if self.done else ""
        return f"{state}{self.place}{done}" + (f": {why}" if why else "")


def told(done: Sequence[Done]) -> str:
    """Finished steps for people: "create 123, load 456"."""
    return ", ".join(str(it) for it in done)


def steps_of(client: Client, tx: Mapping[str, str]) -> Steps:
    """The steps of a transaction.

    Args:
        client: Whose it is.
        tx: Its hash, which must not be empty.
    """
    count, at, part = int(tx["n"]), int(tx["k"]), int(tx.get("pt", 0))
    if count == 1 and not part:
        return Steps(1, 1, "", ())
    row = row_of(client, tx)
    its = [None] * count if row is None else _planned(client, tx["j"], row)
    names = [it.name if it else "" for it in its]
    parts = [it.parts if it else 1 for it in its]
    finished = count if tx["s"] == "succeeded" else at - 1
    ids = tx["ids"].split("\n") if "ids" in tx else []
    done = [
        Done(
            names[n] or f"step {n + 1}",
            (ids[n] if n < len(ids) else "") or None,
            *([parts[n]] * 2 if parts[n] > 1 else ()),
        )
        for n in range(finished)
    ]
    for n in range(finished if tx["s"] in FINAL else at):
        it = its[n]
        if row and it and it.name == LOAD and not it.governed:
            done[n : n + 1] = [_loaded(client, client.key(tx["j"], row["id"]))]
    if finished < at and part and parts[at - 1] > 1:
        name = "" if count == 1 else names[at - 1] or f"step {at}"
        done.append(Done(name, None, part, parts[at - 1]))
    return Steps(count, at, names[at - 1], done)


def _loaded(client: Client, key: str) -> Loaded:
    """What is loaded by now of the contacts of this campaign."""
    child = child_of(key)
    succeeded, rows = client.store.hmget(client.keys.job(child), "succeeded", "rows")
    return Loaded(LOAD, child, int(succeeded or 0), int(rows or 0))


def row_of(client: Client, tx: Mapping[str, str]) -> Row | None:
    """The row of a transaction, or its batch; None: its page is missing."""
    place = Place.read(tx["p"])
    entries = page_of(client, tx["j"], place.page)
    return None if entries is None else taken(entries[place.index], place)


def state_of(tx: Mapping[str, str]) -> str:
    """A final state, `waiting` or `in_flight`; an empty hash is of a row whose page waits.

    Of a batch whose rows are those of others now: `split`. No row is in that state.
    """
    letter = tx.get("s", "w")
    return letter if letter in ENDED else "in_flight" if letter == "s" else "waiting"


def _planned(client: Client, job: str, row: Row) -> Sequence[Planned]:
    about = client.ledger.about(job)
    return find_kind(about["kind"]).steps.plan(row, about, client.configured)
