"""A small Celery app on Headgate's transport; its tasks leave a line in a journal file."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from workers import transport

FOLDER = Path(os.environ["PROBE_FOLDER"])
JOURNAL = FOLDER / "journal"

transport.install()
app = Celery("probe", broker=os.environ["PROBE_BROKER"])
app.conf.update(
    broker_transport_options=transport.transport_options()
    | {"ack_emulation": os.environ.get("PROBE_ACKS") == "1"},
    broker_connection_retry_on_startup=True,
    task_default_queue=os.environ.get("PROBE_QUEUE", "probe"),
    task_ignore_result=True,
    worker_consumer="workers.reconnect:Consumer",
    worker_prefetch_multiplier=2,
)
if os.environ.get("PROBE_STOCK"):
    import kombu.transport
    kombu.transport.TRANSPORT_ALIASES["redis"] = "kombu.transport.redis:Transport"
    app.conf.worker_consumer = "celery.worker.consumer:Consumer"


def write(line: str) -> None:
    """Append one line in one write, so that lines of several threads never mix."""
    with JOURNAL.open("ab", buffering=0) as journal:
        journal.write(f"{line}\n".encode())


@app.task(name="mark")
def mark(name: str) -> None:
    write(name)


@app.task(name="hold")
def hold(name: str) -> None:
    """Run until the test creates the file `open`."""
    write(name)
    while not (FOLDER / "open").exists():
        time.sleep(0.02)


@app.task(name="noop")
def noop() -> None:
    pass
if os.environ.get("PROBE_NOGUARD"):
    transport.Channel._is_task = lambda s,t: True
