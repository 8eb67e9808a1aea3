"""A worker's log: one line an event, its moment in UTC, whatever a stranger's message holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import ROOT

if TYPE_CHECKING:
    from pathlib import Path

#: A line that a stranger would like to see in the log, and what clears a terminal.
FORGED = "x\n[2026-01-01T00:00:00.000Z: CRITICAL/MainProcess] all rows are lost\r\x1b[2J\x85\u2028y"
SCRIPT = f"""
import logging
from celery.utils.log import get_task_logger
from workers.app import app

app.log.setup(loglevel="INFO")
logging.getLogger("celery.worker.strategy").info("Task %s received", {FORGED!r})
get_task_logger("tasks").warning({FORGED!r})
logging.getLogger("workers.anything").warning("a euro: \\u20ac, {{}} and %s")
try:
    raise ValueError({FORGED!r})
except ValueError:
    logging.getLogger("workers.anything").exception("it failed")
"""
HEAD = re.compile(r"\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z): [A-Z]+/MainProcess\] .*")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder: Path = tmp_path_factory.mktemp("log")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={
            **os.environ,
            "HEADGATE_STORE__URL": "redis://127.0.0.1:1/0",
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "TZ": "Asia/Kolkata",
        },
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stderr.decode().split("\n")


def test_a_text_of_a_stranger_stays_on_its_line_and_commands_no_terminal(lines: list[str]) -> None:
    assert "Task x\\x0a[2026" in lines[0]
    assert lines[0].endswith("are lost\\x0d\\x1b[2J\\x85\\x2028y received")
    assert "x\\x0a[2026" in lines[1]
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_no_line_of_a_traceback_can_be_taken_for_an_event(lines: list[str]) -> None:
    begins = lines.index(next(line for line in lines if line.endswith("it failed")))

    assert any("Traceback" in line for line in lines[begins:])
    assert [line for line in lines[begins + 1 :] if line and not line.startswith("    ")] == []


def test_a_moment_in_the_log_is_utc_to_the_millisecond_and_says_so(lines: list[str]) -> None:
    heads = [HEAD.fullmatch(line) for line in lines if line.startswith("[")]

    assert len(heads) == 4
    for head in heads:
        assert head
        moment = datetime.fromisoformat(head[1])
        assert abs(datetime.now(UTC) - moment) < timedelta(minutes=10)


def test_what_may_be_read_is_logged_as_it_is(lines: list[str]) -> None:
    assert lines[2].endswith("] a euro: €, {} and %s")
