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
(`tasks.steps.rotation`), where the operation itself says that it means this.

A look-up that finds nothing leads to a re-send, which is refused once more if it was right: after
as many as `max_retries` the step has failed. For a stale version the look-up is the new reading.

What the next call of a step must know of those before it is its memo in the ledger: `l` and the
look-ups made (`l` alone: not even the first wait is over), or `x`, how often the same 5xx came, and
its digest; or `o`: the provider takes the key no more; or `s`: the batch was refused and is to be
split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from workers.answer.outcome import Next, machine_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.answer.outcome import Answer, Reading

#: The memo of a step whose key the provider takes no more.
KEY_REFUSED: Final = "o"
#: The memo of a batch that was refused, see `tasks.steps.splitting`.
TO_SPLIT: Final = "s"
#: A batch may be refused so for what stands in one of its rows, or for its size.
OF_ROWS: Final = frozenset({400, 413, 422})
#: The same 5xx so often under one key is the provider's memory of its first answer.
STORED_AFTER: Final = 3


class Guard(StrEnum):
    """What makes a second send of a step harmless, by its letter in the ledger."""

    KEY = "k"  #: the provider honours the idempotency key
    UPSERT = "u"  #: a second send changes nothing
    LOOKUP = "l"  #: before a second send it is asked what became of the first
    NONE = "n"  #: nothing: a send of unknown outcome is never repeated
    READ = "r"  #: the call has no effect


class Sight(StrEnum):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known of a step beside the answer to be judged."""

    guard: Guard
    doubt: bool = False  #: see `in_doubt`
    given: Mapping[str, str] = field(default_factory=dict)  #: see `meaning`
    sight: Sight | None = None  #: what the look-up saw; None: it was a send
    rows: int = 1  #: more: it was a batch

    @property
    def may_split(self) -> bool:
        """Whether parts of the batch may be sent under keys of their own.

        What may have been executed may be sent again only under the key that it had, unless a
        second send is harmless by itself.
        """
        return self.rows > 1 and (not self.doubt or self.guard is Guard.UPSERT)


def meaning(answer: Answer, given: Mapping[str, str]) -> Meaning:
    """What a refusal after an unknown attempt means.

    Args:
        answer: A 4xx.
        given: What the operation says: "409", or "409 code" with the machine code of the body,
            which goes first, to a meaning.
    """
    return _said(answer, given) or USUAL.get(answer.status or 0, Meaning.UNPROVEN)


def is_key_refused(answer: Answer, given: Mapping[str, str]) -> bool:
    """Whether the operation says that this refusal is for the key and not for the request."""
    return _said(answer, given) is Meaning.KEY_EXPIRED


def _said(answer: Answer, given: Mapping[str, str]) -> Meaning | None:
    for name in (f"{answer.status} {machine_code(answer)}", str(answer.status)):
        if name in given:
            return Meaning(given[name])
    return None


def in_doubt(guard: Guard, *, unknown: bool, attempts: int) -> bool:
    """Whether an earlier send of a step may have been executed.

    That a look-up found nothing is believed for a re-send, but not for good: what refuses the
    re-send may be the first send, which came late.
    """
    return guard is not Guard.READ and (unknown or (guard is Guard.LOOKUP and attempts > 0))


def is_done(answer: Answer, reading: Reading, case: Case) -> bool:
    """Whether the answer proves that the step is done."""
    if case.sight is not None:
        return case.sight is Sight.FOUND
    if case.doubt and reading.next is Next.REFUSED and case.guard in (Guard.KEY, Guard.UPSERT):
        return meaning(answer, case.given) is Meaning.EXISTS
    return reading.next is Next.DONE


def is_look(memo: str) -> bool:
    """Whether the call that goes out is the look-up."""
    return memo.startswith("l")


def looked(memo: str) -> str:
    """The memo after one more look."""
    return f"l{looks(memo) + 1}"


def looks(memo: str) -> int:
    """How many look-ups were made; -1 while the first wait is still to come."""
    return int(memo[1:] or -1)


def told(memo: str, answer: Answer) -> str:
    """The memo after a failed send: how often the same 5xx came, to the byte, in a row."""
    if answer.status is None or answer.status < 500:  # noqa: PLR2004
        return ""
    digest = sha256(b"%d %b" % (answer.status, answer.body)).hexdigest()[:8]
    times, _, before = memo[1:].partition(":")
    return f"x{int(times) + 1 if before == digest else 1}:{digest}"


def is_stored(memo: str) -> bool:
    """Whether a 5xx came so often that the provider only remembers it."""
    return memo.startswith("x") and int(memo[1:].partition(":")[0]) >= STORED_AFTER
