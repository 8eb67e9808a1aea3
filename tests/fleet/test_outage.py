"""A provider that fails as a whole, on real workers: no row ends by it, and little goes into it.

The long form, with figures, is tests/chaos/chaos_outage.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from tests.support.faults.checks import check_all
from tests.support.faults.outage import IN_A_ROW, SHAPES, fault, is_total, most_probes, rows_of
from tests.support.fleet import Fleet, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Longer than the attempts of a row last: 3 retries after 0.1, 0.2 and 0.4 s, and jitter.
OUTAGE_S = 4.0
GUARDED = ("key", "upsert", "lookup")
LOOKS = {"lookup_after_s": 0.3, "lookups": 2, "lookup_every_s": 0.3}
THREADS = 8
#: Rows of one scope that are sent into a total outage, with the probes of one that lasts longer.
MOST = 2 * THREADS + IN_A_ROW + most_probes(10 * OUTAGE_S)
#: What people are told of an outage.
FAILING = re.compile(r"has been failing since .*next probe (in|now)")


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outage_ends_no_row_that_a_guard_protects(shape: str) -> None:
    rows = [row for guard in GUARDED for row in rows_of(guard, 80)]
    waits = {"read_timeout_s": 0.3} if shape == "hangs" else {}
    with Fleet(client={**LOOKS, **waits}) as fleet:
        fleet.submit([{**row, "line": n} for n, row in enumerate(rows, 1)])
        fleet.start_worker("w1", THREADS)
        fleet.wait_for(20)
        fleet.sandbox.post("faults", [fault(shape, OUTAGE_S)])

        assert fleet.wait() == {"succeeded": 240}

        hit = rows_hit(fleet)
        assert hit
        assert not is_total(shape) or max(hit.values()) <= MOST
        check_all(fleet)


def rows_hit(fleet: Fleet) -> Counter[str]:
    """Path → how many rows met a fault there.

    A re-send is not counted: with a backoff as short as here, some come before the breaker opens.
    """
    rows = {(entry["path"], entry["key"]) for entry in fleet.requests() if entry.get("fault")
            and entry.get("key")}  # fmt: skip
    return Counter(path for path, _ in rows)


def test_a_closed_port_ends_no_row_and_spends_no_attempt() -> None:
    with Fleet() as fleet:
        fleet.submit(rows_of("key", 240))
        fleet.start_worker("w1", THREADS)
        fleet.wait_for(20)
        fleet.sandbox.post("refuse", {"seconds": OUTAGE_S})

        assert fleet.wait() == {"succeeded": 240}

        assert fleet.report()["effects"] == 240
        check_all(fleet)


def test_without_a_guard_only_what_went_into_the_outage_ends_unknown() -> None:
    with Fleet() as fleet:
        fleet.submit(rows_of("none", 240))
        fleet.start_worker("w1", THREADS)
        fleet.wait_for(20)
        fleet.sandbox.post("faults", [fault("503", OUTAGE_S)])

        states = fleet.wait()

        hit = {entry["key"] for entry in fleet.requests() if entry.get("fault")}
        unknown = {tx.key for tx in fleet.transactions().values() if tx.state == "unknown"}
        assert unknown == hit
        assert 0 < len(unknown) <= MOST
        assert states == {"succeeded": 240 - len(unknown), "unknown": len(unknown)}
        assert fleet.report()["requests"] == 240
        check_all(fleet, healthy=False)


def test_an_outage_of_one_route_leaves_the_other_route_alone() -> None:
    with Fleet() as fleet:
        broken = rows_of("key", 120, "broken")
        for row in broken:
            row["steps"][0]["path"] = "/broken"
        fleet.sandbox.post("faults", [{"kind": "page", "match": "* /broken"}])
        fleet.submit(broken, job="broken")
        fleet.submit(rows_of("key", 240))
        fleet.start_worker("w1", THREADS)

        assert fleet.wait() == {"succeeded": 240}

        assert fleet.ended("broken") == 0
        fleet.sandbox.post("faults", [])
        assert fleet.wait("broken") == {"succeeded": 120}
        assert rows_hit(fleet)["/broken"] <= MOST
        check_all(fleet, "job", "broken")


def test_status_watch_and_log_say_since_when_the_provider_fails_and_when_it_is_asked_next() -> None:
    with Fleet() as fleet:
        fleet.sandbox.post("faults", [SHAPES["503"]])
        fleet.submit(rows_of("key", 60))
        fleet.start_worker("w1", THREADS)
        headgate = CliRunner(env=fleet.environment)

        def status() -> str:
            return headgate.invoke(main, ["status"]).stdout

        with watching(fleet) as plain, watching(fleet, FORCE_COLOR="1") as terminal:
            until(lambda: FAILING.search(status()), what="a status that says so", fleet=fleet)
            for watch in (plain, terminal):
                until(lambda: FAILING.search(watch.read_text()), 60, "a watch that does", fleet)  # noqa: B023 -- it is called at once
            until(lambda: FAILING.search(fleet.log("w1")), what="a log that does", fleet=fleet)
            assert fleet.ended() == 0

            fleet.sandbox.post("faults", [])
            assert fleet.wait() == {"succeeded": 60}
        assert not FAILING.search(status())


@contextmanager
def watching(fleet: Fleet, **terminal: str) -> Iterator[Path]:
    """A `headgate watch` of the job; the file to which it prints.

    With FORCE_COLOR it prints what a wide terminal shows, else plain lines.
    """
    output = fleet.folder / f"watch{len(terminal)}.txt"
    command = [sys.executable, "-m", "orchestration.cli", "watch", "job"]
    env = {**fleet.environment, **terminal, "COLUMNS": "200"}
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=env)
        try:
            yield output
        finally:
            process.kill()
            process.wait()


def test_a_row_whose_first_send_is_still_in_work_waits_for_it_and_spends_no_attempt() -> None:
    with Fleet() as fleet:
        fleet.submit(rows_of("key", 1, "first"), job="first")  # there is a token then
        fleet.start_worker("w1", THREADS)
        fleet.wait("first")
        fleet.sandbox.post("config", {"latency_ms": 5000})
        fleet.submit(rows_of("key", 1))
        until(lambda: fleet.sandbox.get("health")["in_flight"], what="the send", fleet=fleet)
        fleet.sandbox.post("config", {"latency_ms": 0})  # 409 comes at once

        assert fleet.wait() == {"succeeded": 1}

        (tx,) = fleet.transactions().values()
        report = fleet.report()
        assert report["by_status"]["409"] >= 1
        assert (report["effects"], report["duplicates"]) == (2, 0)
        assert tx.attempts <= 1  # that of the answer that did not come
        check_all(fleet, "first", "job")
