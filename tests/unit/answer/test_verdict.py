"""From an answer to a verdict."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from workers.answer.guards import TO_SPLIT, Case, Guard, in_doubt
from workers.answer.outcome import Answer, Outcome, read
from workers.answer.verdict import Verdict, judge
from workers.governor.governor import Go
from workers.ledger.batch import Place
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from workers.answer.outcome import Reading

CLIENT = ClientSettings(
    name="acme",
    base_url="http://provider",
    token_url="http://provider/token",
    client_id="it",
    client_secret_env="UNUSED",
)


def grant(attempts: int = 0, *, unknown: bool = False) -> Go:
    return Go(
        key="k", step=1, fence="f", start_in_s=0, stale_at_ns=0, job="j", place=Place(0, 0),
        attempts=attempts, unknown=unknown, throttled=0, answers=[],
    )  # fmt: skip


def verdict_on(
    answer: Answer, guard: Guard, it: Go, client: ClientSettings = CLIENT
) -> tuple[Reading, Verdict]:
    case = Case(guard=guard, doubt=in_doubt(guard, unknown=it.unknown, attempts=it.attempts))
    reading = read(answer, earlier_unknown=it.unknown)
    return reading, judge(
        answer, reading, it, case=case, client=client, backlog_after_s=15, rng=Random(1)
    )


@pytest.mark.parametrize(
    ("guard", "how", "outcome"),
    [
        (Guard.KEY, "unknown", Outcome.UNKNOWN),
        (Guard.UPSERT, "unknown", Outcome.UNKNOWN),
        (Guard.READ, "failed", Outcome.NOT_EXECUTED),
    ],
)
def test_after_its_retries_a_write_is_unknown_and_a_read_has_failed(
    guard: Guard, how: str, outcome: Outcome
) -> None:
    _, it = verdict_on(Answer(status=503), guard, grant(CLIENT.max_retries))

    assert (it.kind, it.how, it.outcome, it.attempt) == ("END", how, outcome, True)


def test_a_read_whose_worker_died_is_refused_as_failed_a_write_as_unknown() -> None:
    refused, earlier = Answer(status=404), grant(1, unknown=True)

    assert verdict_on(refused, Guard.READ, earlier)[1].how == "failed"
    assert verdict_on(refused, Guard.KEY, earlier)[1].how == "unknown"


def test_a_401_is_no_attempt_where_a_token_can_be_renewed_and_the_end_where_none_is_sent() -> None:
    bare = ClientSettings(name="acme", base_url="http://provider")

    _, renewed = verdict_on(Answer(status=401), Guard.KEY, grant())
    _, ended = verdict_on(Answer(status=401), Guard.KEY, grant(), bare)

    assert (renewed.kind, renewed.how, renewed.attempt) == ("AGAIN", "line", False)
    assert (ended.kind, ended.how) == ("END", "failed")
    assert "set token_url" in ended.text


def test_a_403_holds_its_operation_alone_and_names_the_permission_that_is_missing() -> None:
    said = b'{"code": "missing.permissions", "message": "Jane Doe lacks [outbound:contact:add]"}'

    _, it = verdict_on(Answer(status=403, body=said), Guard.KEY, grant())
    _, ended = verdict_on(Answer(status=403, body=said), Guard.KEY, grant(CLIENT.max_retries))

    assert (it.kind, it.how, it.attempt, it.alone, it.wide) == ("AGAIN", "line", True, True, False)
    assert 30 <= it.pause_s <= it.delay_s <= 31
    assert it.text == (
        "the provider answered 403 (missing.permissions): grant the OAuth client "
        "outbound:contact:add; this operation is held"
    )
    assert (ended.kind, ended.how, ended.pause_s) == ("END", "failed", 0)


def test_half_a_character_of_a_provider_is_replaced_before_it_reaches_the_store() -> None:
    it = Verdict(kind="NEXT", outcome=Outcome.EXECUTED, text="a\ud800", provider_id="\udfff")

    assert [text for text in it.args(1) if "?" in str(text)] == ["a?", "?"]
    for text in it.args(1):
        str(text).encode()


@pytest.mark.parametrize(
    ("status", "guard", "rows", "unknown", "splits"),
    [
        (400, Guard.UPSERT, 2, False, True),
        (413, Guard.UPSERT, 1000, False, True),
        (422, Guard.UPSERT, 2, False, True),
        (400, Guard.UPSERT, 1, False, False),  # it is the row itself that is refused
        (404, Guard.UPSERT, 2, False, False),  # and here the list
        (503, Guard.UPSERT, 2, False, False),
        (400, Guard.UPSERT, 2, True, True),  # written once more it is still one thing
        (400, Guard.KEY, 2, False, True),
        (400, Guard.KEY, 2, True, False),  # under other keys it could be done twice
        (400, Guard.LOOKUP, 2, True, False),
    ],
)
def test_a_batch_is_split_when_a_row_may_be_to_blame_and_other_keys_do_no_harm(
    status: int, guard: Guard, rows: int, *, unknown: bool, splits: bool
) -> None:
    answer = Answer(status=status)
    judged = judge(
        answer,
        read(answer, earlier_unknown=unknown),
        grant(1, unknown=unknown),
        case=Case(guard=guard, doubt=in_doubt(guard, unknown=unknown, attempts=1), rows=rows),
        client=CLIENT,
        backlog_after_s=15,
        rng=Random(1),
    )

    assert (judged.memo == TO_SPLIT) is splits
    if splits:
        assert (judged.kind, judged.how, judged.delay_s, judged.attempt) == ("AGAIN", "line", 0, 1)
