"""Bindings of queues that expire live as long as kombu says, and no script runs for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Exchange, Queue

from workers.broker import names, transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

DEADLINES = "ns:kombu.binding_deadlines"
HOUR_MS = 60 * 60 * 1000
SCRIPTS = ("eval", "evalsha", "script|load", "fcall")


@pytest.fixture
def channel(store: Store) -> Iterator[Any]:
    """A channel to a broker that is empty."""
    store.flushall()
    store.config_resetstat()
    transport.install()
    port = store.connection_pool.connection_kwargs["port"]
    options = {**transport.transport_options(), **names.key_options("ns")}
    with Connection(f"redis://127.0.0.1:{port}/0", transport_options=options) as connection:
        yield connection.channel()


def bind(channel: Any, queue: str, exchange: str, expires: float | None = 10.0) -> None:
    """Declare a queue, as the processes that ask or listen do."""
    Queue(queue, Exchange(exchange, "direct"), queue, channel=channel, expires=expires).declare()


def now_ms(store: Store) -> int:
    seconds, microseconds = store.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def make_overdue(store: Store, *exchanges: str) -> None:
    """As if nobody had refreshed these for more than an hour."""
    store.zadd(DEADLINES, dict.fromkeys(exchanges, now_ms(store) - 1))


def table_of(store: Store, exchange: str) -> int:
    """How many queues are bound to it."""
    return int(store.scard(f"ns:kombu.binding.{exchange}"))


def test_a_queue_that_expires_is_bound_for_an_hour_by_the_servers_clock(
    store: Store, channel: Any
) -> None:
    before = now_ms(store)
    bind(channel, "answers-1", "answers")
    bind(channel, "answers-2", "answers")

    assert table_of(store, "answers") == 2
    deadline = float(store.zscore(DEADLINES, "answers") or 0)
    assert before + HOUR_MS <= deadline <= now_ms(store) + HOUR_MS


def test_a_later_deadline_stays(store: Store, channel: Any) -> None:
    late = now_ms(store) + 9 * HOUR_MS
    store.zadd(DEADLINES, {"answers": late})

    bind(channel, "answers-1", "answers")

    assert store.zscore(DEADLINES, "answers") == late


def test_what_nobody_refreshed_is_swept_and_what_has_a_lasting_queue_stays(
    store: Store, channel: Any
) -> None:
    for exchange in ("gone", "mixed", "live"):
        bind(channel, f"{exchange}-1", exchange)
    bind(channel, "mixed-2", "mixed", expires=None)
    make_overdue(store, "gone", "mixed")

    assert channel.sweep_bindings() == 2

    assert [table_of(store, it) for it in ("gone", "mixed", "live")] == [0, 2, 1]
    assert store.zrange(DEADLINES, 0, -1) == ["live"]
    assert channel.sweep_bindings() == 0


def test_a_binding_that_is_refreshed_during_a_sweep_stays(
    store: Store, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind(channel, "answers-1", "answers")
    make_overdue(store, "answers")
    pipeline_of = type(channel.client.pipeline())
    multi = pipeline_of.multi

    def refresh_first(pipe: Any) -> None:
        monkeypatch.setattr(pipeline_of, "multi", multi)
        bind(channel, "answers-2", "answers")
        multi(pipe)

    monkeypatch.setattr(pipeline_of, "multi", refresh_first)

    assert channel.sweep_bindings() == 0
    assert table_of(store, "answers") == 2


def test_no_script_runs_for_any_of_it(store: Store, channel: Any) -> None:
    bind(channel, "answers-1", "answers")
    channel.basic_consume("answers-1", no_ack=True, callback=print, consumer_tag="x")
    channel.maybe_refresh_binding_expiry()  # as the loop of a consumer does
    make_overdue(store, "answers")
    channel.sweep_bindings()

    given = store.info("commandstats")
    assert "cmdstat_zadd" in given
    assert [name for name in SCRIPTS if f"cmdstat_{name}" in given] == []
