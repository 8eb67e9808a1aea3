"""A transaction and a job are what their hashes say, and the hashes what they say."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.support.stored import a_job
from workers.answer.guards import Guard
from workers.ledger import job, transaction
from workers.ledger.batch import Place
from workers.ledger.identity import SCHEMA
from workers.ledger.job import Job
from workers.ledger.transaction import (
    Halves,
    Transaction,
    TransactionState,
    join_flows,
    join_guards,
    merge_answers,
)

WHOLE = Transaction(
    key="k",
    state=TransactionState.SENT,
    step=2,
    steps=3,
    flows="1:-:aa,1:-:bb>1:-:cc,1:-:aa",
    guards="klk",
    job="j1",
    place=Place(1, 2, 0, 5),
    rows=7,
    repeats={0: 1, 4: 2},
    halves=Halves(2, "k1", "k2"),
    refused="2 12 1 app",
    awaited=2,
    first_sent_us=11,
    last_answer_us=12,
    fence="f.1",
    generation=3,
    first_generation=2,
    done_calls=0,
    attempts=2,
    sends=6,
    throttled=4,
    crashes=1,
    places=("app", "cap"),
    probe="client",
    counted=9,
    first_bad_us=14,
    waits_from_us=15,
    ordered_us=16,
    swept="f.1 0",
    undone="f.0",
    sent_digest="0123456789abcdef",
    memo="m",
    maybe_executed=True,
    status=503,
    provider_id="p",
    correlation_id="c",
    error="no",
    answer_lines=('{"a": 1}', '{"a": 2, "b": 3}'),
    provider_ids=("p1", ""),
    backup_us=13,
    dead_letter="1-0",
)


def test_every_field_of_a_transaction_is_written_and_read() -> None:
    for known in fields(Transaction):
        if known.name not in {"key", "state"}:
            assert getattr(WHOLE, known.name) != known.default, known.name

    assert Transaction.from_hash("k", WHOLE.to_hash()) == WHOLE


def test_a_transaction_without_anything_is_written_and_read() -> None:
    bare = Transaction(key="k", state=TransactionState.WAITING)

    assert Transaction.from_hash("k", bare.to_hash()) == bare


def test_a_hash_without_a_state_is_no_transaction() -> None:
    assert Transaction.from_hash("k", {}) is None
    assert Transaction.from_hash("k", {"fl": "1:-:aa"}) is None


def test_a_state_that_nobody_knows_is_neither_open_nor_ended() -> None:
    stored = Transaction.from_hash("k", {"s": "x"})

    assert stored
    assert stored.state is TransactionState.UNREADABLE
    assert not stored.state.is_open
    assert not stored.state.has_ended


@pytest.mark.parametrize(
    ("state", "name"),
    [("w", "waiting"), ("r", "waiting"), ("t", "waiting"), ("s", "in_flight"), ("split", "split")],
)
def test_people_read_a_state_by_its_public_name(state: str, name: str) -> None:
    assert TransactionState(state).public_name == name


def test_the_flow_and_the_guard_are_those_of_the_next_call_of_the_step() -> None:
    assert (WHOLE.flow, WHOLE.guard) == ("1:-:bb", Guard.LOOKUP)
    one = replace(WHOLE, flows="1:-:aa", guards="k")
    assert (one.flow, one.guard) == ("1:-:aa", Guard.KEY)


def test_flows_and_guards_stand_once_when_all_steps_share_them() -> None:
    assert join_flows([["a"], ["a"]]) == "a"
    assert join_flows([["a"], ["b", "c"]]) == "a,b>c"
    assert join_flows([["a", "b"], ["a", "b"]]) == "a>b,a>b"  # they change over one by one
    assert join_guards([Guard.KEY, Guard.KEY]) == "k"
    assert join_guards([Guard.KEY, Guard.READ]) == "kr"


def test_of_a_step_that_was_done_again_the_newest_answer_counts() -> None:
    assert merge_answers(WHOLE.answers) == {"a": 2, "b": 3}


def test_each_half_of_a_batch_holds_its_rows() -> None:
    halves = Halves(2, "k1", "k2")

    assert [halves.holder(row) for row in range(4)] == ["k1", "k1", "k2", "k2"]


def test_every_field_of_a_job_is_written_and_read() -> None:
    params = a_job("j1", "contacts", lane=2, tenant="emea", parent=("c-1", "r"), start=True)
    values = {known.name: 7 for known in fields(Job) if known.type == "int"} | {"schema": SCHEMA}
    texts = dict.fromkeys(("client", "source", "digest", "contact_list"), "x")
    whole = replace(params, **values, **texts, started=True, finished_us=1, backup_us=2)

    assert Job.from_hash("j1", whole.to_hash()) == whole
    assert whole.step_params == replace(whole.params, contact_list="x")


def test_an_empty_hash_is_no_job() -> None:
    assert Job.from_hash("j1", {}) is None


@pytest.mark.parametrize("legend", [transaction.FIELDS, job.FIELDS])
def test_each_attribute_and_each_meaning_of_a_legend_stands_once(legend: dict[str, tuple]) -> None:
    for column in (0, 1):
        texts = [known[column] for known in legend.values()]
        assert len(set(texts)) == len(texts)
    assert all(known[1].endswith(".") for known in legend.values())
