"""Whatever stands in the store: each reader has one failure, which those who call it handle."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.damage import CONTENTS
from workers.answer.guards import Memo
from workers.errors import LedgerDamaged
from workers.governor import flows, proposals
from workers.governor.failures import is_evidence
from workers.governor.grants import Asked, Grant, Leases
from workers.governor.refusals import Refusal
from workers.governor.registry import Applied, Away, Configuration, Process
from workers.ledger.batch import Place
from workers.ledger.job import FIELDS as OF_JOB
from workers.ledger.job import Job, JobParams
from workers.ledger.packing import unpack
from workers.ledger.transaction import FIELDS as OF_TRANSACTION
from workers.ledger.transaction import Halves, Transaction
from workers.store.reading import Unreadable, is_number, number_of, read_json, read_record

if TYPE_CHECKING:
    from collections.abc import Callable

#: What the ledger's readers handle, see `workers.ledger.ledger`.
HANDLED: Final = (AttributeError, TypeError, ValueError, zlib.error, LedgerDamaged)
LEASES: Final = Leases(call_us=0, local_us=0, margin_us=0)
READERS: Final[dict[str, Callable[[str], object]]] = {
    "JSON": read_json,
    "a heartbeat": lambda text: read_record(Process, text),
    "a configuration": lambda text: read_record(Configuration, text),
    "what was applied": lambda text: read_record(Applied, text),
    "who was away": lambda text: read_record(Away, text),
    "a refusal": lambda text: read_record(Refusal, text),
    "proposals": proposals.from_json,
    "a flow": lambda text: flows.read(f"{text}\n{text}"),
    "the limits of a flow": lambda text: flows.read_limits(f"{text}\n{text}"),
    "what a flow is": lambda text: flows.is_whole(f"{text}\n{text}"),
    "parameters": lambda text: JobParams.parse("kind", text),
    "a memo": Memo.from_text,
    "a place": Place.read,
    "halves": Halves.parse,
    "evidence": is_evidence,
    "a number": number_of,
    "a page": lambda text: unpack(zlib.compress(text.encode())),
    "an answer of admit": lambda text: Grant.from_reply(
        ["OLD", "j1", text, text], asked=Asked("k", 1, "f", 0), leases=LEASES
    ),
}


@pytest.mark.parametrize("text", CONTENTS, ids=lambda text: text[:12])
def test_no_content_of_a_key_makes_a_reader_fail_in_a_way_of_its_own(text: str) -> None:
    readers = READERS | {
        f"{name} of a job": lambda text, name=name: Job.from_hash("j1", {name: text})
        for name in OF_JOB.keys() - {"schema"}
    }
    readers |= {
        f"{name} of a transaction": lambda text, name=name: Transaction.from_hash(
            "k", {"s": "w", name: text}
        )
        for name in OF_TRANSACTION
    }
    wrong = []
    for name, read in readers.items():
        try:
            read(text)
        except HANDLED:
            continue
        except Exception as error:  # noqa: BLE001 -- any other failure is the one that is looked for
            wrong.append(f"{name}: {type(error).__name__}")
    assert not wrong


@pytest.mark.parametrize("number", ["1e400", "-Infinity", "NaN", "9" * 5000, "9" * 400])
def test_a_number_that_nobody_can_count_with_is_no_number(number: str) -> None:
    assert not is_number(number)
    assert number_of(number, 7) == 7
    with pytest.raises(Unreadable):
        read_json(f'{{"at_us": {number}}}')


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**20])
def test_no_record_holds_a_number_that_the_scripts_cannot_hold(number: int) -> None:
    with pytest.raises(Unreadable):
        read_record(Away, f'{{"newest_us": {number}, "until_us": 1}}')


def test_a_number_of_a_provider_may_be_larger_than_those_of_the_ledger() -> None:
    number = 10**30 + 1
    assert read_json(f'{{"id": {number}}}') == {"id": number}


def test_a_record_of_another_release_may_have_more_fields() -> None:
    assert read_record(Away, '{"newest_us": 1, "until_us": 2, "new": []}') == Away(
        newest_us=1, until_us=2
    )
