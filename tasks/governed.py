"""`Governed`: a base for Celery tasks of your own application, whose calls are governed.

    @app.task(base=Governed, client="acme", lane="normal", bind=True)
    def send(self, order):
        self.session.post("/orders", json=order)

A call that would have to wait for long holds no worker: Celery runs the task again, from its top,
when there is a token. What it had written before is then written again, under the same keys; if
these have grown old, or a request is another one now, that raises `RepeatRefused`.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from celery import Task
from celery.exceptions import Retry

from workers.answer.backoff import pause_s
from workers.clients import clients
from workers.errors import NotNow, RepeatRefused, Throttled, UsageError
from workers.governor.flows import NO_TENANT
from workers.ledger.identity import request_digest
from workers.session.adapter import WRITES, read_body
from workers.session.session import GovernedSession
from workers.session.writes import Write, Writes

if TYPE_CHECKING:
    import requests

    from workers.clients import Client

#: Longest countdown, seconds, before the jitter. A task that waits for its time lies in the memory
#: of a worker, and is unacknowledged: past the broker's visibility timeout it would run twice.
MAX_COUNTDOWN_S: Final = 300.0
#: What Celery's transports take for that timeout when nobody sets it, at least.
DEFAULT_VISIBILITY_TIMEOUT_S: Final = 1800.0


class Governed(Task):  # type: ignore[misc]  # Celery ships no types
    """A task with a governed session.

    When limits or a pause hold a call for longer than `wait_s`, or a breaker is open, the task is
    retried after that time plus a jitter, but after at most 5 minutes or a third of the broker's
    visibility timeout; then it asks again. That spends none of `max_retries`, and ends with
    `expires`. Called directly, or eagerly, it raises `Throttled` or `CircuitOpen` instead.
    """

    abstract = True
    client = ""  #: name of a client in the configuration; to be given
    lane = "normal"  #: urgent, normal or bulk
    tenant = NO_TENANT  #: who sends, where the client has tenants
    wait_s = 2.0  #: longest wait of a call for its tokens in a worker's thread, seconds >= 0
    dont_autoretry_for = (Throttled, RepeatRefused)  # the one is no failure, the other would stay
    rng = random.Random()  # noqa: S311 -- jitter, not a secret

    @property
    def session(self) -> GovernedSession:
        """The session of this client; one for all tasks and threads of the process.

        Raises:
            UsageError: the task names no client; lane or tenant are none.
            ConfigError: the configuration is wrong, or has no such client.
            StoreAway: the store does not answer.
        """
        if not self.client:
            raise UsageError(f'task {self.name} names no client; give it client="…"')
        return _session(os.getpid(), self.client, self.lane, self.tenant, self.wait_s)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 -- the task's own
        """Run the task for a message, or for who calls it directly."""
        if self.request.called_directly or _execution.get():
            return super().__call__(*args, **kwargs)
        execution = Execution(self.request.id)
        outer = _execution.set(execution)
        try:
            result = self.run(*args, **kwargs)
        except Throttled as error:
            if self.request.is_eager:
                raise
            raise self.later(error) from None
        else:
            if not self.acks_late:  # else its message may still come again
                execution.end()
            return result
        finally:
            _execution.reset(outer)

    def later(self, error: Throttled) -> Retry:
        """Publish the message again, with as many retries as it had."""
        transport = self.app.conf.broker_transport_options
        most_s = min(
            MAX_COUNTDOWN_S, transport.get("visibility_timeout", DEFAULT_VISIBILITY_TIMEOUT_S) / 3
        )
        base_s = min(self.session.client.configured.backoff_base_s, most_s)
        countdown_s = pause_s(min(error.wait_s, most_s), base_s, self.rng)
        retries = self.request.retries
        again = self.signature_from_request(countdown=countdown_s, retries=retries)
        again.apply_async()
        return Retry(exc=error, when=countdown_s, sig=again)


class Execution:
    """One run of a task for a message: it names the writes, for any run of the same message."""

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id  # not the root's: members of a group would share their keys
        self._calls: Counter[str] = Counter()
        self._begun: dict[Writes, str] = {}  # with the name of the task's record there

    def key(self, client: Client, request: requests.PreparedRequest) -> str:
        """The key of the next call with this method and path."""
        call = f"{request.method} {request.path_url}"
        self._calls[call] += 1
        return self._derive(client, f"{self._calls[call]} {call}")

    def record(self, client: Client, writes: Writes) -> str:
        """The name under which `writes` keeps what this task sends, until it ends."""
        return self._begun.setdefault(writes, self._derive(client, "record"))

    def end(self) -> None:
        """Let go of what was kept: the task has succeeded."""
        for writes, record in self._begun.items():
            writes.end(record)

    def _derive(self, client: Client, what: str) -> str:
        return client.key(f"task:{self._task_id}", what)


_execution: ContextVar[Execution | None] = ContextVar("execution", default=None)


class _Session(GovernedSession):
    """A session that puts the key of the running task on each write without one."""

    def __init__(self, client: Client, lane: int, tenant: str, wait_s: float) -> None:
        super().__init__(client, lane, tenant, wait_s)
        self._writes = Writes(client, wait_s)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # noqa: ANN401 -- as requests
        header, execution = self.client.configured.idempotency_header, _execution.get()
        if execution is None or request.method not in WRITES:
            return super().send(request, **kwargs)
        key = execution.key(self.client, request)
        if header in request.headers:  # the task's own, for which it answers
            return super().send(request, **kwargs)
        request.headers[header] = key
        digest = request_digest(request.method, str(request.url), (header, key), read_body(request))
        write = Write(execution.record(self.client, self._writes), key, digest)
        self._writes.begin(write)
        try:
            return super().send(request, **kwargs)
        except NotNow:  # nothing was sent, or it was refused before anything was done
            self._writes.forget(write)
            raise


@cache
def _session(process: int, client: str, lane: str, tenant: str, wait_s: float) -> GovernedSession:
    del process  # one that was forked from another one has connections of its own
    return _Session.of(clients()[client], lane, tenant, wait_s)
