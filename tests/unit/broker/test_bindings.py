"""Bindings of queues that expire live as long as kombu says, and no script runs for them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Exchange, Queue
from redis.exceptions import NoPermissionError

from tests.support.store_users import rules_of, url_as
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
    with connected(store) as connection:
        yield connection.channel()


def connected(store: Store, user: str = "") -> Connection:
    """A connection to the broker as one of its users."""
    transport.install()
    options = {**transport.transport_options(), **names.key_options("ns")}
    port = int(store.connection_pool.connection_kwargs["port"])
    url = url_as(user, port) if user else f"redis://127.0.0.1:{port}/0"
    return Connection(url, transport_options=options)


def bind(channel: Any, queue: str, exchange: str, expires: float | None = 10.0) -> None:
    """Declare a queue, as the processes that ask or listen do."""
    Queue(queue, Exchange(exchange, "direct"), queue, channel=channel, expires=expires).declare()


def now_ms(store: Store) -> int:
    seconds, microseconds = store.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def listen(channel: Any) -> None:
    """Take from a queue that expires, whose bindings the loop of the consumer keeps."""
    bind(channel, "answers-1", "answers")
    channel.basic_consume("answers-1", no_ack=True, callback=print, consumer_tag="x")


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


def test_a_name_that_nobody_can_read_goes_and_keeps_no_other_from_the_sweep(
    store: Store, channel: Any
) -> None:
    bind(channel, "gone-1", "gone")
    make_overdue(store, "gone")
    store.execute_command("ZADD", DEADLINES, 1, b"\xff\xfe")

    assert channel.sweep_bindings() == 2

    assert table_of(store, "gone") == store.zcard(DEADLINES) == 0


@pytest.mark.parametrize("lacking", ["watch unwatch zrange", "unwatch", "exists"])
def test_a_user_who_lacks_commands_is_told_in_one_sentence_and_no_connection_is_lost(
    store: Store, caplog: pytest.LogCaptureFixture, lacking: str
) -> None:
    store.flushall()
    rules = rules_of("broker", store, "broker", namespace="ns")
    store.execute_command("ACL", "SETUSER", "broker", "reset", *rules, "~*")
    with connected(store, "broker") as connection:
        listen(channel := connection.channel())
        if lacking == "exists":  # which is asked of what is overdue
            store.zadd(DEADLINES, {"gone": 1})
        store.execute_command("ACL", "SETUSER", "broker", *(f"-{it}" for it in lacking.split()))

        with caplog.at_level(logging.WARNING):
            for _ in range(3):  # as kombu's loop, each second
                channel.connection.cycle.maybe_refresh_binding_expiry()
        for _ in range(3):
            with pytest.raises(NoPermissionError):
                channel.sweep_bindings()
        lost = channel.client.connection_pool._in_use_connections

    (record,) = caplog.records
    assert record.exc_info is None
    given = ", ".join(lacking.upper().split())
    assert f"refuses its user {given} for {DEADLINES}" in record.message
    assert len(lost) <= 1  # the consumer's own


def test_no_script_runs_for_any_of_it(store: Store, channel: Any) -> None:
    listen(channel)
    channel.maybe_refresh_binding_expiry()  # as the loop of a consumer does
    make_overdue(store, "answers")
    channel.sweep_bindings()

    given = store.info("commandstats")
    assert "cmdstat_zadd" in given
    assert [name for name in SCRIPTS if f"cmdstat_{name}" in given] == []
