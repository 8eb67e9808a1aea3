"""The verdict as it crosses to settle: read by name, whole numbers stay whole, absent is absent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rig import APP, DONE, GRACE_US, Rig, S
from tests.support.stored import transaction_hash
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Outcome
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import Advance, Pause, Reach, Requeue, Retry, to_json

if TYPE_CHECKING:
    from workers.store.connection import Store

#: Its shortest form by a printer of doubles is 2e+15.
ROUND_US = 2_000_000_000_000_000
DAY_S = 86_400


def a_sent_one(store: Store, us: int = 1_790_000_000_000_000, steps: int = 1) -> tuple[Rig, Any]:
    """A grant, by a clock that stands at `us`."""
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, *["POST /x"] * steps)
    rig.fill()
    rig.ring()
    grant = rig.grant(key)
    rig.us = us
    return rig, grant


def quota_left(gov: Any) -> list[str]:
    """What the provider leaves of each scope, as it is stored."""
    return [value for field, value in gov.items() if field.startswith("z:")]


def test_moments_that_a_double_would_write_with_an_exponent_are_kept_whole(store: Store) -> None:
    rig, grant = a_sent_one(store, ROUND_US - DAY_S * S)
    verdict = Requeue(
        outcome=Outcome.NOT_EXECUTED,
        status=429,
        throttled=True,
        quota=Feedback(None, 10**15 - 1, DAY_S),
        pause=Pause(DAY_S, Reach.CLIENT),
        delay_s=DAY_S,
    )

    rig.governor.settle(grant, verdict)

    gov: Any = store.hgetall(rig.keys.governor)
    assert gov["c:client"] == str(ROUND_US)
    assert quota_left(gov) == [f"{10**15 - 1} {ROUND_US}"]
    assert not [it for it in gov.values() if "e+" in it]
    ((_, due),) = store.zrange(
        rig.keys.backlog(transaction_hash(rig, grant.key)["fl"]) + ":due", 0, -1, withscores=True
    )
    assert int(due) == ROUND_US
    tx = transaction_hash(rig, grant.key)
    assert (tx["st"], tx["th"], tx["at"]) == ("429", "1", "0")


def test_a_quota_of_a_round_large_number_is_told_whole(store: Store) -> None:
    rig, grant = a_sent_one(store)
    quota = Feedback(None, 10**14, 5.0)

    rig.governor.settle(grant, Advance(outcome=Outcome.EXECUTED, status=200, quota=quota))

    assert quota_left(store.hgetall(rig.keys.governor)) == [f"{10**14} {rig.us + 5 * S}"]


def test_a_moment_of_an_answer_is_kept_whole_at_every_moment(store: Store) -> None:
    rig, grant = a_sent_one(store, ROUND_US)

    rig.governor.settle(grant, Retry(outcome=Outcome.UNKNOWN, attempt=True, delay_s=1.0))

    tx = transaction_hash(rig, grant.key)
    assert tx["t2"] == str(ROUND_US)
    assert (tx["at"], tx["u"]) == ("1", "1")


def test_what_a_verdict_leaves_out_changes_nothing(store: Store) -> None:
    rig, grant = a_sent_one(store)
    before = transaction_hash(rig, grant.key)

    rig.governor.settle(grant, Requeue(outcome=Outcome.NOT_EXECUTED))

    after = transaction_hash(rig, grant.key)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    assert changed == {"s": "w", "st": "", "at": "0", "ns": "0", "t2": str(rig.us)}


def test_a_memo_that_is_left_out_stays_and_an_empty_one_is_forgotten(store: Store) -> None:
    rig, grant = a_sent_one(store)
    memo = Memo(next=NextCall.LOOKUP, lookups=1)
    for verdict, kept in (
        (Requeue(outcome=Outcome.NOT_EXECUTED, memo=memo), memo),
        (Requeue(outcome=Outcome.NOT_EXECUTED), memo),
        (Requeue(outcome=Outcome.NOT_EXECUTED, memo=Memo()), Memo()),
    ):
        rig.governor.settle(grant, verdict)
        assert rig.ring_on(S) == [grant.key]
        grant = rig.grant(grant.key)
        assert grant.memo == kept


@pytest.mark.parametrize("text", ['a "quote"', "tab\tand \\", "Köln 🎈", "\u2028 \x7f \x00"])
def test_texts_arrive_as_they_are(store: Store, text: str) -> None:
    rig, grant = a_sent_one(store, steps=2)
    answer = json.dumps({"text": text})
    verdict = Advance(outcome=Outcome.EXECUTED, values=answer, provider_id=text)

    rig.governor.settle(grant, verdict)

    tx = transaction_hash(rig, grant.key)
    assert (tx["an"], tx["id"]) == (answer, text)


def test_an_answer_that_holds_a_line_separator_as_it_is_stays_one_answer(store: Store) -> None:
    rig, grant = a_sent_one(store, steps=2)
    answer = json.dumps({"text": "a\u2028b\u0085c"}, ensure_ascii=False)

    rig.governor.settle(grant, Advance(outcome=Outcome.EXECUTED, values=answer))
    rig.ring_on(S)

    assert rig.grant(grant.key, step=2).answers == [{"text": "a\u2028b\u0085c"}]


def test_a_verdict_with_names_of_a_later_release_is_read_as_far_as_it_is_known(
    store: Store,
) -> None:
    rig, grant = a_sent_one(store)
    verdict = json.dumps(json.loads(to_json(DONE)) | {"of_a_later_release": {"a": [1]}})

    assert rig.governor._run("settle", grant.key, 1, grant.fence, verdict, GRACE_US) == "END"
