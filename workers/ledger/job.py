"""One job as the ledger keeps it: its fields, and the legend of the stored names.

`FIELDS` is the legend: it is the only place in Python that knows a stored name, and `from_hash` and
`to_hash` work from it. The Lua prelude repeats the legend.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

from workers.errors import SchemaUnknown
from workers.ledger.identity import SCHEMA
from workers.ledger.transaction import FINAL, StoredField, TransactionState, read_flag, write_flag
from workers.store.reading import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How the name of a job begins that is one transaction, submitted by code and not as a file.
OF_ONE_TRANSACTION: Final = "t-"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParams:
    """What the steps of a job need to know beside their rows."""

    kind: str  #: a name in the list of kinds
    lane: int = 1  #: of rows that name none, see `workers.governor.flows.LANES`
    tenant: str = "-"  #: of rows that name none, see `workers.governor.flows.NO_TENANT`
    contact_list: str = ""  #: contacts: the provider's id of their list
    parent: tuple[str, str] | None = None  #: contacts of a campaign: its job, and its row
    start: bool | None = None  #: campaigns: whether they are started
    #: of kinds that other packages bring: what is theirs, JSON values
    own: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, kind: str, text: str) -> Self:
        """The parameters as the ledger keeps them beside the kind: one JSON object."""
        stored: dict[str, Any] = read_json(text or "{}")
        values = {name: stored[short] for short, name in _PARAMS.items() if short in stored}
        if "parent" in values:
            job, row = values["parent"]
            values["parent"] = (job, row)
        return cls(kind=kind, **values)

    def to_json(self) -> str:
        """The text from which `parse` makes equal parameters; what does not apply is left out."""
        values = {short: getattr(self, name) for short, name in _PARAMS.items()}
        return json.dumps(
            {short: value for short, value in values.items() if value not in (None, "", {})}
        )


#: Name in the stored JSON object → attribute of `JobParams`.
_PARAMS: Final = {
    "lane": "lane",
    "tenant": "tenant",
    "start": "start",
    "list": "contact_list",
    "of": "parent",
    "own": "own",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of the ledger. Moments are in us since the epoch, by the store's clock."""

    name: str  #: by which people and messages know it
    params: JobParams
    client: str = ""  #: name of the client
    source: str = ""  #: name of its file, or the id of its only transaction
    digest: str = ""  #: of its content
    low_water: int = 0  #: when fewer transactions than this are open, the next page is opened
    joined: int = 0  #: rows that repeat an earlier one of the file
    pages: int = 0  #: pages that were accepted
    next_page: int = 0  #: the page that is opened next, from 0
    rows: int = 0  #: rows that were accepted, rejected ones included
    calls: int = 0  #: calls that they will make
    began_us: int = 0  #: when its first page was to come
    started: bool = False  #: all its pages are here, and work on it may begin
    started_us: int = 0  #: 0: not started
    finished_us: int | None = None  #: when its last row ended
    contact_list: str | None = None  #: contacts of a campaign: their list, once it is made
    released: int = 0  #: transactions that were put in the backlog
    ended_transactions: int = 0  #: those of them that have ended
    ended: int = 0  #: rows in a final state
    succeeded: int = 0  #: this and the next five: rows in this state
    failed: int = 0
    unknown: int = 0
    cancelled: int = 0
    expired: int = 0
    rejected: int = 0
    throttled: int = 0  #: answers of 429
    replayed: int = 0  #: rows that a replay took back from a final state
    #: moment of a restored backup after which what stands on pages to come may have been sent
    backup_us: int | None = None
    schema: int = SCHEMA  #: of its hash and its pages; the scripts write it

    @classmethod
    def from_hash(cls, name: str, stored: Mapping[str, str]) -> Self | None:
        """The job of this name; None when the hash is empty.

        Raises:
            SchemaUnknown: another release stored it in a form that this one does not know.
        """
        if not stored:
            return None
        if (schema := stored.get("schema", str(SCHEMA))) != str(SCHEMA):
            raise SchemaUnknown(
                f"job {name} is stored in schema {schema}, and this release reads {SCHEMA}: use "
                f"the release that wrote it"
            )
        values: dict[str, Any] = {
            known.attribute: known.parse(stored[short])
            for short, known in FIELDS.items()
            if short in stored and short not in _OF_PARAMS
        }
        params = JobParams.parse(*(stored.get(short, "") for short in _OF_PARAMS))
        return cls(name=name, params=params, **values)

    def to_hash(self) -> dict[str, str]:
        """The hash from which `from_hash` makes an equal job; defaults are left out."""
        stored = dict(zip(_OF_PARAMS, (self.params.kind, self.params.to_json()), strict=True))
        return stored | {
            short: known.write(value)
            for short, known in FIELDS.items()
            if short not in _OF_PARAMS
            and (value := getattr(self, known.attribute)) != _DEFAULTS[known.attribute]
        }

    @property
    def counts(self) -> dict[str, int]:
        """Rows in each of the six final states."""
        return {state.value: self.count(state) for state in FINAL}

    def count(self, state: TransactionState) -> int:
        """Rows in this final state."""
        return int(getattr(self, state.value))

    @property
    def step_params(self) -> JobParams:
        """The parameters for its steps: contacts of a campaign know their list once it is made."""
        if self.contact_list is None:
            return self.params
        return replace(self.params, contact_list=self.contact_list)


#: Stored name → attribute, meaning, and how its text is read and written.
FIELDS: Final[Mapping[str, StoredField]] = {
    "schema": StoredField("schema", "Number of the form in which it and its rows are stored.", int),
    "kind": StoredField("params.kind", "Kind of its rows."),
    "job_params": StoredField("params", "What its steps need beside their rows, JSON."),
    "client": StoredField("client", "Name of its client."),
    "name": StoredField("source", "Name of its file, or id of its only transaction."),
    "digest": StoredField("digest", "Digest of its content."),
    "low": StoredField(
        "low_water", "When fewer transactions than this are open, the next page is opened.", int
    ),
    "joined": StoredField("joined", "Rows that repeat an earlier one of the file.", int),
    "pages": StoredField("pages", "Pages accepted.", int),
    "next_page": StoredField("next_page", "Page that is opened next, from 0.", int),
    "rows": StoredField("rows", "Rows accepted, rejected ones included.", int),
    "calls": StoredField("calls", "Calls that they will make.", int),
    "began_us": StoredField("began_us", "When it was created, us since the epoch.", int),
    "started": StoredField("started", "1 when all its pages are here.", read_flag, write_flag),
    "started_us": StoredField("started_us", "When work on it could begin.", int),
    "finished_us": StoredField("finished_us", "When its last row ended; absent = it has not.", int),
    "list": StoredField("contact_list", "Contacts of a campaign: their list, once it is made."),
    "released": StoredField("released", "Transactions put in the backlog.", int),
    "finished_tx": StoredField("ended_transactions", "Transactions that have ended.", int),
    "ended": StoredField("ended", "Rows in a final state.", int),
    "succeeded": StoredField("succeeded", "Rows that succeeded.", int),
    "failed": StoredField("failed", "Rows that failed.", int),
    "unknown": StoredField("unknown", "Rows of unknown outcome.", int),
    "cancelled": StoredField("cancelled", "Rows that were cancelled.", int),
    "expired": StoredField("expired", "Rows past their deadline.", int),
    "rejected": StoredField("rejected", "Rows rejected at intake.", int),
    "throttled": StoredField("throttled", "Answers of 429.", int),
    "replayed": StoredField("replayed", "Rows that replays took back from a final state.", int),
    "since": StoredField("backup_us", "Backup after which pages to come may have been sent.", int),
}

#: The stored fields that make up `Job.params`: its kind, and the JSON object.
_OF_PARAMS: Final = tuple(short for short, known in FIELDS.items() if "params" in known.attribute)
_DEFAULTS: Final = {
    known.name: known.default for known in fields(Job) if known.default is not MISSING
}
