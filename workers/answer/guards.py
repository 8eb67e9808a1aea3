"""What is true after a send of unknown outcome. Pure.

A refusal then proves nothing about the send before it: "exists already" may be our own doing. What
it means is the operation's to say (`after_unknown` of a step), else what `USUAL` says:

| meaning       | the provider says that               | guard `key`, `upsert` | guard `lookup` |
| ------------- | ------------------------------------ | --------------------- | -------------- |
| `in_progress` | the send before is still in work     | wait, same key        | look up        |
| `exists`      | the send before made it              | succeeded, with its id | look up       |
| `key_expired` | the key is forgotten, or another's   | `unknown`             | look up        |
| `stale`       | the version is another by now        | `unknown`             | look up        |
| `unproven`    | nothing that would decide            | `unknown`             | look up        |

If no send before was of unknown outcome, `key_expired` leads to a fresh key
(`tasks.steps.detours`), where the operation itself says that it means this.

A look-up that finds nothing leads to a re-send, which is refused once more if it was right: after
as many as `max_retries` the step has failed. For a stale version the look-up is the new reading.
A look-up that was answered badly is none: it is made again.

What the next call of a step must know of those before it is its `Memo` in the ledger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from workers.answer.outcome import Next, machine_code
from workers.store.reading import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.answer.outcome import Answer, Reading

#: Methods without an effect at the provider.
READS: Final = frozenset({"GET", "HEAD"})
#: With these statuses a batch may be refused for what stands in one of its rows, or for its size.
BATCH_REFUSALS: Final = frozenset({400, 413, 422})


class Guard(StrEnum):
    """What makes a second send of a step harmless, by its letter in the ledger."""

    KEY = "k"  #: the provider honours the idempotency key
    UPSERT = "u"  #: a second send changes nothing
    LOOKUP = "l"  #: before a second send it is asked what became of the first
    NONE = "n"  #: nothing: a send of unknown outcome is never repeated
    READ = "r"  #: the call has no effect


def read_guards(letters: str) -> str:
    """The guards of several steps by their letters; raises `ValueError` where one is unknown."""
    return "".join(map(Guard, letters))


class LookupResult(StrEnum):
    """What a look-up saw of what an earlier send was to make."""

    FOUND = "found"
    ABSENT = "absent"
    UNSURE = "not yet sure"


class Meaning(StrEnum):
    """What a refusal says of the send before it."""

    IN_PROGRESS = "in_progress"
    EXISTS = "exists"
    KEY_EXPIRED = "key_expired"
    STALE = "stale"
    UNPROVEN = "unproven"


#: Where an operation says nothing: as the IETF's draft on the Idempotency-Key header has it.
USUAL: Final = {409: Meaning.IN_PROGRESS, 422: Meaning.KEY_EXPIRED}


class NextCall(StrEnum):
    """What goes out next of a step, or is done instead; lua/includes/lookups.lua reads it."""

    SEND = "send"  #: the step's own call
    LOOKUP = "look-up"  #: the call that asks what became of it
    FRESH_KEY = "fresh key"  #: the provider takes its key no more
    OTHER_REQUEST = "other request"  #: what would be sent is not what was sent under its key
    SPLIT = "split"  #: its batch was refused, see `tasks.steps.detours`


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """What the next call of a step must know of those before it.

    The ledger keeps it as JSON under these names; what is as by default is left out, and of a
    memo that says nothing the text is "".
    """

    next: NextCall = NextCall.SEND
    #: Look-ups that found nothing; None: not even the wait before the first one is over.
    lookups: int | None = None
    waits: int = 0  #: answers in a row that decided nothing: it waits longer after each
    token_refusals: int = 0  #: answers of 401 or 403 in a row

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The memo as the ledger keeps it."""
        if not text:
            return _NOTHING  # type: ignore[return-value]  # Self is Memo: nothing derives from it
        stored: dict[str, Any] = read_json(text)
        if "next" in stored:
            stored["next"] = NextCall(stored["next"])
        return cls(**stored)

    def to_text(self) -> str:
        """As the ledger keeps it; equal memos have equal texts."""
        if self == _NOTHING:
            return ""
        stored = {
            "next": None if self.next is NextCall.SEND else self.next,
            "lookups": self.lookups,
            "waits": self.waits or None,
            "token_refusals": self.token_refusals or None,
        }
        known = {name: value for name, value in stored.items() if value is not None}
        return json.dumps(known, separators=(",", ":"))

    def after_lookup(self) -> Memo:
        """The memo after one more look-up that found nothing."""
        lookups = 0 if self.lookups is None else self.lookups + 1
        refusals = self.token_refusals
        return Memo(next=NextCall.LOOKUP, lookups=lookups, token_refusals=refusals)

    def after_wait(self) -> Memo:
        """The memo after one more answer that decided nothing."""
        return replace(self, waits=self.waits + 1)

    def after_refused_token(self) -> Memo:
        """The memo after one more 401 or 403."""
        return replace(self, token_refusals=self.token_refusals + 1)


_NOTHING: Final = Memo()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """What is known of a step beside the answer to be judged."""

    guard: Guard
    attempts: int = 0  #: those that failed before
    throttled: int = 0  #: answers of 429 so far
    memo: Memo = _NOTHING
    doubt: bool = False  #: see `in_doubt`
    after_unknown: Mapping[str, str] = field(default_factory=dict)  #: see `find_meaning`
    lookup: LookupResult | None = None  #: what the look-up saw; None: it was a send
    rows: int = 1  #: more: it was a batch
    is_poll: bool = False  #: the step waits for something; it polled
    renews_token: bool = True  #: after a 401 or 403: a new token is asked for

    @property
    def may_split(self) -> bool:
        """Whether parts of the batch may be sent under keys of their own.

        What may have been executed may be sent again only under the key that it had, unless a
        second send is harmless by itself.
        """
        return self.rows > 1 and (not self.doubt or self.guard is Guard.UPSERT)


def find_meaning(answer: Answer, after_unknown: Mapping[str, str]) -> Meaning:
    """What a refusal after an unknown attempt means.

    Args:
        answer: A 4xx.
        after_unknown: What the operation says: "409", or "409 code" with the machine code of the
            body, which goes first, to a meaning.
    """
    stated = _stated_meaning(answer, after_unknown)
    return stated or USUAL.get(answer.status or 0, Meaning.UNPROVEN)


def is_key_refused(answer: Answer, after_unknown: Mapping[str, str]) -> bool:
    """Whether the operation says that this refusal is for the key and not for the request."""
    return _stated_meaning(answer, after_unknown) is Meaning.KEY_EXPIRED


def _stated_meaning(answer: Answer, after_unknown: Mapping[str, str]) -> Meaning | None:
    for name in (f"{answer.status} {machine_code(answer)}", str(answer.status)):
        if name in after_unknown:
            return Meaning(after_unknown[name])
    return None


def in_doubt(guard: Guard, *, unknown: bool, attempts: int) -> bool:
    """Whether an earlier send of a step may have been executed.

    That a look-up found nothing is believed for a re-send, but not for good: what refuses the
    re-send may be the first send, which came late.
    """
    return guard is not Guard.READ and (unknown or (guard is Guard.LOOKUP and attempts > 0))


def is_done(answer: Answer, reading: Reading, state: StepState) -> bool:
    """Whether the answer proves that the step is done."""
    if state.lookup is not None:
        return state.lookup is LookupResult.FOUND
    if state.doubt and reading.next is Next.REFUSED and state.guard in (Guard.KEY, Guard.UPSERT):
        return find_meaning(answer, state.after_unknown) is Meaning.EXISTS
    return reading.next is Next.DONE
