"""A Celery application of somebody else, on a stock broker link, with governed tasks."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import requests
from celery import Celery

from tasks.governed import Governed

FOLDER = Path(os.environ.get("APP_FOLDER", "."))

app = Celery("mine", broker=os.environ.get("APP_BROKER", "memory://"))
app.conf.update(
    task_default_queue="mine",
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": 3,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)


@app.task(base=Governed, client="acme", wait_s=0.1, bind=True, max_retries=0)  # type: ignore[untyped-decorator]
def send(self: Any, name: str) -> None:
    """One write, named after the retries that were spent."""
    self.session.post("/things/1", json={"business_id": f"{name}.{self.request.retries}"})


@app.task(  # type: ignore[untyped-decorator]
    base=Governed, client="acme", bind=True, autoretry_for=(requests.ConnectionError,)
)
def insist(self: Any, name: str) -> None:
    """One write, repeated after a lost answer."""
    self.default_retry_delay = 0.1
    self.session.post("/things/1", json={"business_id": name})


@app.task(base=Governed, client="acme", bind=True, acks_late=True)  # type: ignore[untyped-decorator]
def die_once(self: Any, name: str) -> None:
    """Three writes, two of them alike; then the first process that came so far is killed."""
    self.session.post("/things/1", json={"business_id": f"{name}.1"})
    self.session.post("/things/1", json={"business_id": f"{name}.2"})
    self.session.put("/things/2", json={"business_id": f"{name}.3"})
    try:
        (FOLDER / "died").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
