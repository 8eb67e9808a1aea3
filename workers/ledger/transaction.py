"""One transaction as the ledger keeps it: its fields, and the legend of the stored names.

A transaction is one hash under its idempotency key. The stored names are short, because a hash
stays in the store's compact form only while it is small. `FIELDS` is the legend, from which
`from_hash` and `to_hash` work. The tables of the Lua prelude say the same names, and a test
compares the two.

Of a transaction that has ended all of it stays, but for `places` and `is_probe`; nothing deletes
it. Its row stands on a page of its job, at `place`.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from workers.answer.guards import Guard, read_guards
from workers.ledger.batch import Place
from workers.store.reading import read_integer, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class TransactionState(StrEnum):
    """The states of a transaction, by their stored letter or word.

    An open state is a letter, and a state in which nothing more happens is a word.
    """

    WAITING = "w"  #: it is in the backlog
    RUNG = "r"  #: its bell is out
    COUNTING_DOWN = "t"  #: the countdown of Celery's retry runs
    SENT = "s"  #: its call is out
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    SPLIT = "split"  #: its rows are those of two other transactions now
    UNREADABLE = "unreadable"  #: the store holds a word that this release does not know

    @classmethod
    def _missing_(cls, value: object) -> TransactionState:
        del value
        return cls.UNREADABLE

    @property
    def is_open(self) -> bool:
        """Whether the transaction waits or is out."""
        return self in _OPEN

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to the transaction by itself."""
        return self in ENDED

    @property
    def public_name(self) -> str:
        """The state as people and programs get it: `waiting`, `in_flight`, or the stored word."""
        if self.is_open:
            return "in_flight" if self is TransactionState.SENT else "waiting"
        return self.value


_OPEN: Final = frozenset(
    {
        TransactionState.WAITING,
        TransactionState.RUNG,
        TransactionState.COUNTING_DOWN,
        TransactionState.SENT,
    }
)
#: The states in which every row ends.
FINAL: Final = (
    TransactionState.SUCCEEDED,
    TransactionState.FAILED,
    TransactionState.UNKNOWN,
    TransactionState.CANCELLED,
    TransactionState.EXPIRED,
    TransactionState.REJECTED,
)
#: The states in which nothing more happens to a transaction by itself.
ENDED: Final = (*FINAL, TransactionState.SPLIT)
#: The states of a dead letter, which a replay takes back.
DEAD: Final = (TransactionState.FAILED, TransactionState.UNKNOWN)


class Halves(NamedTuple):
    """The two transactions that took the place of a batch."""

    second_row: int  #: the row of the batch, from 0, with which its second half begins
    first: str  #: key of the first half
    second: str  #: key of the second half

    @classmethod
    def parse(cls, text: str) -> Self:
        """The halves as the ledger keeps them: "500 KEY KEY"."""
        row, first, second = text.split()
        return cls(int(row), first, second)

    def __str__(self) -> str:
        return " ".join(map(str, self))

    def holder(self, row: int) -> str:
        """The key of the half that holds this row of the batch, counted from 0."""
        return self.second if row >= self.second_row else self.first


_FIRST_PLACE: Final = Place(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transaction of the ledger. Moments are in us since the epoch, by the store's clock."""

    key: str  #: its first idempotency key, which is its name
    state: TransactionState
    step: int = 1  #: that is next, out, or where it ended; from 1
    steps: int = 1
    flows: str = ""  #: see `join_flows`
    guards: str = ""  #: see `join_guards`
    job: str = ""
    place: Place = _FIRST_PLACE  #: of its payload
    rows: int = 1  #: rows of the file that share it
    #: row of a batch, from 0 → how often further lines of the file repeat it
    repeats: Mapping[int, int] = field(default_factory=dict)
    halves: Halves | None = None  #: of a batch that was split
    first_sent_us: int | None = None  #: under the key of this generation; None: not yet
    #: newest answer to a send, except the one by which the transaction succeeded
    last_answer_us: int | None = None
    fence: str | None = None  #: of the newest grant
    generation: int = 1  #: of its key
    first_generation: int = 1  #: with which this step, or its replay, began
    done_calls: int | None = None  #: finished calls of this step: parts or polls; None: it has none
    attempts: int = 0  #: of this step: sends that failed
    sends: int = 0  #: of this step: how often a call of it was sent, as far as is known
    counted: int = 0  #: what they count, in eighths: less where the provider failed as a whole
    first_bad_us: int | None = None  #: since when this step goes on trying
    waits_from_us: int | None = None  #: while it goes on so: from then on it waits for others
    ordered_us: int | None = None  #: where that is when it is due: the provider ordered its wait
    throttled: int = 0  #: answers of 429
    refused: str = ""  #: the newest of them, see lua/includes/own_refusals.lua
    crashes: int = 0  #: workers that died under it
    places: Sequence[
        str
    ] = ()  #: limits of concurrent calls in which it has a place while it is out
    probe: str | None = None  #: while its call is a probe: the scope of the breaker
    #: digest of the newest request that went out under its key; "" = not known
    sent_digest: str = ""
    memo: str = ""  #: what the next call of this step must know, see `workers.answer.guards`
    maybe_executed: bool = False  #: an earlier send of this step may have been executed
    status: int | None = None  #: newest HTTP status
    provider_id: str | None = None
    correlation_id: str | None = None
    error: str | None = None  #: the newest error, one sentence
    answer_lines: Sequence[str] = ()  #: see `answers`
    provider_ids: Sequence[str] = ()  #: of several steps: that of each finished one, "" = none
    backup_us: int | None = None  #: since that backup each step to come may have been sent
    dead_letter: str | None = None  #: its entry among the dead letters
    awaited: int | None = None  #: step after which those are woken that wait for it
    #: whose lease ended without an answer, and what that changed; see lua/includes/late.lua
    swept: str | None = None
    #: of the newest question to admit that was undone before it ran, see lua/undo.lua
    undone: str | None = None

    @classmethod
    def from_hash(cls, key: str, stored: Mapping[str, str]) -> Self | None:
        """The transaction under `key`; None when the hash holds none."""
        if "s" not in stored:
            return None
        values: dict[str, Any] = {}
        repeats: dict[int, int] = {}
        for short, text in stored.items():
            if known := FIELDS.get(short):
                values[known.attribute] = known.parse(text)
            elif short.startswith(REPEATS):
                repeats[int(short.removeprefix(REPEATS))] = read_integer(text)
        return cls(key=key, repeats=repeats, **values)

    def to_hash(self) -> dict[str, str]:
        """The hash from which `from_hash` makes an equal transaction."""
        stored = {
            short: known.write(value)
            for short, known in FIELDS.items()
            if (value := getattr(self, known.attribute)) != _DEFAULTS.get(known.attribute)
            or short in _ALWAYS
        }
        return stored | {f"{REPEATS}{row}": str(times) for row, times in self.repeats.items()}

    @property
    def flow(self) -> str:
        """The flow by which the next call of its step goes."""
        return self._of_step(self.flows.split(",")).partition(">")[0]

    @property
    def may_be_replayed(self) -> bool:
        """Whether it ended without success and nobody has settled it since."""
        return self.state in DEAD and self.dead_letter is not None

    @property
    def guard(self) -> Guard:
        """The guard of its step."""
        return Guard(self._of_step(self.guards))

    @property
    def answers(self) -> list[dict[str, Any]]:
        """What was kept of the answers of finished steps, the oldest first."""
        return [read_json(line) for line in self.answer_lines]

    def _of_step(self, values: Sequence[str]) -> str:
        return values[max(0, min(self.step, len(values)) - 1)] if values else ""


def merge_answers(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The values that the finished steps left; of a step that was done again the newest."""
    return {name: value for answer in answers for name, value in answer.items()}


def join_flows(steps: Sequence[Sequence[str]]) -> str:
    """The flows of the steps as the ledger keeps them.

    They stand with a comma between them, or once when all steps share one. A step with a look-up
    has two with > between them, that of its next call first; those are never shared, for they
    change over one by one.
    """
    names = [">".join(flows) for flows in steps]
    return names[0] if len({*names}) == 1 and len(steps[0]) == 1 else ",".join(names)


def join_guards(guards: Sequence[Guard]) -> str:
    """The guards of the steps as the ledger keeps them: one letter each, or one for all."""
    return guards[0].value if len({*guards}) == 1 else "".join(guards)


def read_flag(text: str) -> bool:
    """A stored flag: "1" is true."""
    return text == "1"


def write_flag(value: object) -> str:
    """A flag as it is stored: "1" or "0"."""
    return str(int(bool(value)))


def _read_status(text: str) -> int | None:
    return read_integer(text) if text else None


def _read_places(text: str) -> tuple[str, ...]:
    return tuple(text.split("+"))


def _read_lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n"))


class StoredField(NamedTuple):
    """One field of a hash."""

    attribute: str  #: of the type that it is read into
    meaning: str  #: one sentence
    read: Callable[[str], object] = str
    write: Callable[[Any], str] = str

    def parse(self, text: str) -> object:
        """What the text says; raises `ValueError` or `TypeError`."""
        return read_integer(text) if self.read is int else self.read(text)


#: How often rows of a batch are repeated: "r:0", "r:1" and so on, see `Transaction.repeats`.
REPEATS: Final = "r:"

#: Stored name → attribute, meaning, and how its text is read and written.
FIELDS: Final[Mapping[str, StoredField]] = {
    "s": StoredField(
        "state", "State: w r t s while it is open, else the final word.", TransactionState
    ),
    "k": StoredField("step", "Step that is next, out, or where it ended, from 1.", int),
    "n": StoredField("steps", "Number of its steps.", int),
    "fl": StoredField(
        "flows", "Flow of each step, comma between them; of a look-up the second after >."
    ),
    "g": StoredField(
        "guards", "Guard of each step, one letter each; one when all are the same.", read_guards
    ),
    "j": StoredField("job", "Its job."),
    "p": StoredField(
        "place", "Place of its payload: page, index, and of a half its rows.", Place.read
    ),
    "r": StoredField("rows", "Rows of the file that share it; absent = 1.", int),
    "h": StoredField(
        "halves",
        "Of a batch that was split: where its second half begins, both keys.",
        Halves.parse,
    ),
    "t1": StoredField("first_sent_us", "First send under its key, us since the epoch.", int),
    "t2": StoredField(
        "last_answer_us", "Newest answer to a send, but for the one that was its success.", int
    ),
    "f": StoredField("fence", "Fence of the newest grant."),
    "gn": StoredField("generation", "Generation of its key; absent = 1.", int),
    "g0": StoredField("first_generation", "Generation with which its step, or replay, began.", int),
    "pt": StoredField("done_calls", "Finished calls of this step: its parts, or polls.", int),
    "at": StoredField("attempts", "Attempts of this step.", int),
    "ns": StoredField("sends", "How often a call of this step was sent; absent = 0.", int),
    "rf": StoredField("refused", "Its newest 429: step, two counts, times apart, scope."),
    "ca": StoredField("counted", "What its attempts count, in eighths; absent = 0.", int),
    "t3": StoredField("first_bad_us", "Since when this step goes on trying.", int),
    "t4": StoredField("waits_from_us", "From when on it waits for others.", int),
    "t5": StoredField("ordered_us", "When it is due, where its wait was ordered.", int),
    "th": StoredField("throttled", "Answers of 429.", int),
    "cr": StoredField("crashes", "Workers that died under it.", int),
    "cc": StoredField(
        "places", "While it is out: limits of concurrent calls, + between.", _read_places, "+".join
    ),
    "pb": StoredField("probe", "While its call is a probe: the scope of the breaker."),
    "sd": StoredField(
        "sent_digest", "Digest of the newest request under its key; absent or empty = not known."
    ),
    "m": StoredField("memo", "What the next call of this step must know."),
    "u": StoredField(
        "maybe_executed",
        "1 while an earlier send of this step may have been executed.",
        read_flag,
        write_flag,
    ),
    "st": StoredField("status", "Newest HTTP status.", _read_status),
    "id": StoredField("provider_id", "Id at the provider."),
    "co": StoredField("correlation_id", "Correlation id of the newest answer."),
    "e": StoredField("error", "Error, one sentence."),
    "an": StoredField(
        "answer_lines", "Answers of finished steps, one line of JSON each.", _read_lines, "\n".join
    ),
    "ids": StoredField("provider_ids", "Provider's id of each step.", _read_lines, "\n".join),
    "b": StoredField("backup_us", "Backup after which each step to come may have been sent.", int),
    "d": StoredField("dead_letter", "Its entry among the dead letters."),
    "uf": StoredField("undone", "Fence of the newest question to admit that was undone."),
    "aw": StoredField("awaited", "Step after which those are woken that wait for it.", int),
    "sw": StoredField("swept", "Whose lease ended without an answer, see lua/includes/late.lua."),
}

#: What the hash of each transaction holds.
_ALWAYS: Final = frozenset(("s", "k", "n", "fl", "g", "j", "p"))
_DEFAULTS: Final = {
    known.name: known.default for known in fields(Transaction) if known.default is not MISSING
}
