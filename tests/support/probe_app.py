"""A small Celery app on Headgate's link to the broker; its tasks write their names in a journal."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from workers.broker import consumer, transport

FOLDER = Path(os.environ.get("PROBE_FOLDER", "."))

transport.install()
app = Celery("probe", broker=os.environ.get("PROBE_BROKER", "redis://127.0.0.1:1"))
app.conf.update(
    consumer.SETTINGS,
    broker_transport_options=transport.transport_options()
    | ({"ack_emulation": True} if os.environ.get("PROBE_ACKS") == "yes" else {}),
    task_default_queue=os.environ.get("PROBE_QUEUE", "probe"),
    task_ignore_result=True,
    worker_prefetch_multiplier=2,
)


@app.task(name="mark")  # type: ignore[untyped-decorator]  # Celery ships no types
def mark(name: str) -> None:
    """Write `name` in the journal, in one write: lines of several threads never mix."""
    with (FOLDER / "journal").open("ab", buffering=0) as journal:
        journal.write(f"{name}\n".encode())


@app.task(name="hold")  # type: ignore[untyped-decorator]
def hold(name: str) -> None:
    """Write `name` in the journal and run until the file `open` exists."""
    mark(name)
    while not (FOLDER / "open").exists():
        time.sleep(0.02)
