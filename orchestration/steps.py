"""What is done of a transaction, and where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.invariants import page_of
from tasks import KINDS
from workers.ledger import FINAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.clients import Client
    from workers.ledger import Row


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step."""

    step: str  #: its name, or "step 2" where it has none
    id: str | None  #: what the provider calls its result; None: the answer did not say

    def __str__(self) -> str:
        return f"{self.step} {self.id}" if self.id else self.step


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a transaction as they stand."""

    count: int
    at: int  #: the step that is next, out, or where it stopped; 1-based
    name: str  #: of that step, "" = none
    done: Sequence[Done]  #: the steps that are finished, in their order

    @property
    def several(self) -> bool:
        """Whether there is more than one, so that a part of them can be done."""
        return self.count > 1

    @property
    def place(self) -> str:
        """Such as " at step 3 of 4 (activate)"; "" for a single step."""
        if not self.several:
            return ""
        name = f" ({self.name})" if self.name else ""
        return f" at step {self.at} of {self.count}{name}"

    def stopped(self, state: str, why: str) -> str:
        """One sentence: how the transaction ended, where, what is done, and why."""
        done = f"; done: {told(self.done)}" if self.several and self.done else ""
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
    count, at = int(tx["n"]), int(tx["k"])
    if count == 1:
        return Steps(1, 1, "", ())
    row = row_of(client, tx)
    names = [""] * count if row is None else _names(client, tx["j"], row)
    finished = count if tx["s"] == "succeeded" else at - 1
    ids = tx["ids"].split("\n") if "ids" in tx else []
    done = [
        Done(names[n] or f"step {n + 1}", (ids[n] if n < len(ids) else "") or None)
        for n in range(finished)
    ]
    return Steps(count, at, names[at - 1], done)


def row_of(client: Client, tx: Mapping[str, str]) -> Row | None:
    """The row of a transaction, of several that share it the first; None: its page is missing."""
    page, _, index = tx["p"].partition(":")
    rows = page_of(client, tx["j"], int(page))
    return None if rows is None else rows[int(index)]


def state_of(tx: Mapping[str, str]) -> str:
    """A final state, `waiting` or `in_flight`; an empty hash is of a row whose page waits."""
    letter = tx.get("s", "w")
    return letter if letter in FINAL else "in_flight" if letter == "s" else "waiting"


def _names(client: Client, job: str, row: Row) -> list[str]:
    about = client.ledger.about(job)
    planned = KINDS[about["kind"]].plan(row, about, client.configured)
    return [it.name for it in planned]
