"""The examples of docs/how-to/python.md run as they stand there."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from tests.support.fleet import ROOT, Fleet, until
from workers import clients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = (ROOT / "docs/how-to/python.md").read_text("utf-8")
TRANSACTION, SESSION, TASK, SDK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    clients._clients.cache_clear()
    with Fleet() as it:
        monkeypatch.setenv("HEADGATE_CONFIG", str(it.config))
        yield it


def test_a_transaction_is_submitted_and_ends(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.start_worker("w1")

    exec(TRANSACTION, {})  # noqa: S102 -- the page's own

    assert capsys.readouterr().out.startswith("succeeded ")


def test_a_session_reads(fleet: Fleet) -> None:
    seen: dict[str, Any] = {}

    exec(SESSION, seen)  # noqa: S102 -- the page's own

    assert seen["answer"].status_code == 200
    assert fleet.report()["requests"] == 1


def test_a_task_of_an_application_sends(fleet: Fleet, tmp_path: Path) -> None:
    broker = f"redis://127.0.0.1:{fleet.store_port}/5"
    (tmp_path / "shop.py").write_text(re.sub(r"redis://[^\"]*", broker, TASK))
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "threads"]
    worker = subprocess.Popen(command, env=fleet.environment, cwd=tmp_path)
    try:
        with Celery("publisher", broker=broker, set_as_current=False) as app:
            app.send_task("shop.send", [{"business_id": "order-1"}])
        until(fleet.effects, what="the write")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=20)

    assert fleet.effects()[0]["key"]


def test_the_sdk_reads(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests/support/stand_in")
    seen: dict[str, Any] = {}

    exec(SDK, seen)  # noqa: S102 -- the page's own

    assert seen["campaigns"]
    assert fleet.report()["requests"] == 1
    for name in [it for it in sys.modules if it.startswith("PureCloudPlatformClientV2")]:
        del sys.modules[name]  # the next test may mean another one
