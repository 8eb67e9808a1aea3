"""A provider that refuses one endpoint for two hours: by a held clock, on the real scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, HELD, Rig, S
from workers.answer.verdict import Pause
from workers.governor.grants import Grant, KeyExpired
from workers.ledger import audit
from workers.settings.limits import LimitSettings, bucket_of

if TYPE_CHECKING:
    from workers.store.connection import Store

#: One token every 0.86 s.
DAILY = LimitSettings(
    name="daily", count=100_000, window_s=86_400, shape="fixed_window", match="POST /daily"
)
REFUSED = replace(HELD, pause=Pause(7200.0), delay_s=7200.0)
HELD_US = 7200 * S


def served(rig: Rig, us: int) -> list[tuple[int, str]]:
    """Every call that leaves in so many us, with its moment; all are answered well."""
    left = []
    for _ in range(us // 25_000):
        for key in rig.ring():
            rig.serve(key)
            left.append((rig.us, key))
    return left


@pytest.mark.parametrize("limits", [(APP,), (APP, DAILY)], ids=["unknown", "configured"])
def test_rows_refused_for_two_hours_wait_alone_and_resume_paced_under_their_keys(
    store: Store, limits: tuple[LimitSettings, ...]
) -> None:
    rig = Rig(store, *limits)
    daily = rig.line_up(6, "POST /daily")
    rig.fill()
    first, *rung = rig.ring(after_us=0)
    others = rig.line_up(400)
    grant = rig.grant(first)
    refused_us = rig.us

    rig.governor.settle(grant, REFUSED)
    for key in rung:  # these bells were out when the refusal came
        assert rig.word(key).startswith("wait")
    soon = served(rig, 10 * S)
    rig.us = refused_us + HELD_US - 5 * S
    late = served(rig, 5 * S)
    after = served(rig, 10 * S)

    assert {key for _, key in soon + late} <= set(others)
    # 4 tokens and 8 a second: the bucket fills while nobody rings.
    assert (len(soon), len(late)) == (84, 44)
    resumed = [(us, key) for us, key in after if key in daily]
    assert sorted(key for _, key in resumed) == daily
    every_us = bucket_of(limits[-1]).interval_us
    for n, (us, _) in enumerate(resumed, 1):  # from an empty bucket
        assert us >= refused_us + HELD_US + n * every_us
    assert rig.states(daily) == {"succeeded": 6}
    throttled = [(it.throttled, it.attempts) for it in rig.ledger.transactions(daily)]
    assert throttled == [(1, 0), *[(0, 0)] * 5]


def test_a_row_refused_all_day_has_a_fresh_key_before_the_provider_forgets_the_old_one(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "POST /daily")
    rig.fill()
    rig.ring(after_us=0)
    sent = 0

    while isinstance(grant := rig.governor.admit(key, 1), Grant):
        sent += 1
        rig.governor.settle(grant, REFUSED)
        rig.us += HELD_US
        rig.ring(after_us=0)  # the bucket begins empty after the silence
        assert rig.ring_on(S) == [key]

    assert sent == 12  # once every two hours and a second, and never after 23 hours
    assert isinstance(grant, KeyExpired)
    assert rig.governor.rotate(grant, audit.addition("rotate key", key=key)) == "old: fresh"
