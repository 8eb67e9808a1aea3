"""Who delivers a notice, and that none is lost with the process that would have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.notify import outbox as outboxes
from orchestration.notify.events import EventType, Notice
from orchestration.notify.outbox import MOST_TRIES, Changes
from tests.support.world import die

if TYPE_CHECKING:
    import pytest

    from tests.support.notices import Looks
    from tests.support.world import World


def a_notice(looks: Looks, name: str = "j1") -> Notice:
    notice = Notice.of(
        EventType.JOB_ENDED, ("acme", name), 1_700_000_000_000_000, "it has ended", job=name
    )
    looks.outbox.note(Changes(notices=[notice]))
    return notice


def test_of_many_workers_one_has_a_notice_until_its_claim_is_over(looks: Looks) -> None:
    notice = a_notice(looks)

    claims = [looks.outbox.claim(notice) for _ in range(5)]

    assert [bool(claim) for claim in claims] == [True, False, False, False, False]
    assert 10_000 < looks.claim_ms(notice) <= 20_000


def test_a_worker_that_dies_before_it_delivered_leaves_the_notice_to_another_one(
    looks: Looks,
) -> None:
    looks.outbox.claim(a_notice(looks))  # and dies

    (left,) = looks.outbox.waiting()
    assert looks.outbox.claim(left) is None
    looks.end_claim(left)

    again = looks.outbox.claim(left)
    assert again is not None
    assert (again.id, again.document, again.tries) == (left.id, left.document, 2)


def test_a_worker_that_dies_after_its_look_has_lost_no_event(world: World, looks: Looks) -> None:
    looks.look()
    die(world, 1)
    looks.look()
    looks.look()  # of the job's end; each is another process, and both are gone

    assert sorted(notice.event for notice in looks.outbox.waiting()) == [
        "dead_letter.appeared",
        "job.ended",
    ]


def test_a_notice_that_was_delivered_is_not_delivered_again_by_a_look_that_was_slow(
    looks: Looks,
) -> None:
    notice = a_notice(looks)
    claimed = looks.outbox.claim(notice)
    assert claimed is not None
    looks.outbox.finish(claimed)

    assert looks.outbox.claim(notice) is None  # read before, and claimed late
    a_notice(looks)  # noted anew by who had looked before
    assert looks.outbox.claim(notice) is None
    assert looks.outbox.waiting() == []


def test_a_notice_whose_claim_is_over_when_it_is_done_is_not_claimed(looks: Looks) -> None:
    notice = a_notice(looks)
    claimed = looks.outbox.claim(notice)
    assert claimed is not None
    looks.outbox.finish(claimed)
    looks.end_claim(notice)

    assert looks.outbox.claim(notice) is None


def test_each_claim_lasts_twice_as_long_as_the_one_before(looks: Looks) -> None:
    notice, lasts = a_notice(looks), []
    for _ in range(MOST_TRIES):
        (waiting,) = looks.outbox.waiting()
        assert looks.outbox.claim(waiting)
        lasts.append(looks.claim_ms(notice))
        looks.end_claim(notice)

    expected = [20_000 * 2**tries for tries in range(MOST_TRIES)]
    assert [round(ms / first) for ms, first in zip(lasts, expected, strict=True)] == [1] * 6


def test_while_the_outbox_is_full_nothing_is_noted_and_nothing_is_lost(
    world: World, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "MOST_WAITING", 1)
    looks.look()
    notice = a_notice(looks)
    die(world, 1)

    looks.look()
    assert [one.id for one in looks.outbox.waiting()] == [notice.id]
    looks.outbox.finish(notice)

    assert sorted(looks.events()) == ["dead_letter.appeared", "job.ended"]


def test_a_notice_that_cannot_be_read_is_dropped_and_stops_no_other_one(looks: Looks) -> None:
    notice = a_notice(looks)
    name = looks.outbox._notices
    looks.store.hset(name, mapping={"a": "{", "b": "[]", "c": '{"event": "of another release"}'})

    assert looks.outbox.waiting() == [notice]
    assert looks.store.hkeys(name) == [notice.id]


def test_of_one_configuration_one_worker_looks_at_a_time(looks: Looks) -> None:
    turns = [looks.outbox.take_turn("one", 5) for _ in range(3)]

    assert turns == [True, False, False]
    assert looks.outbox.take_turn("another", 5)
