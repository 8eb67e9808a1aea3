"""What the main path does about an answer, and in which order."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from celery import Celery

from tasks.rest.calls import CallSteps
from tasks.steps.call import TOKEN_REFUSED_HOLD_S, step_of
from workers.answer.judging import RetryPolicy
from workers.answer.outcome import Answer
from workers.answer.verdict import Pause, Reach, Requeue
from workers.governor.grants import Grant, Settled
from workers.ledger.batch import Place
from workers.ledger.job import JobParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.answer.verdict import Verdict
    from workers.auth.credentials import Token
    from workers.clients import Client

GRANT = Grant("key", 1, "fence", 0.0, 0, "job", Place(0, 0), 0, False, 0, [])  # noqa: FBT003
ROW: dict[str, Any] = {"line": 1, "id": "r", "steps": [{"method": "POST", "path": "/things"}]}
REFUSED = "what the 429 says"


class Recorder:
    """A client whose parts write down what is asked of them."""

    def __init__(self, status: int, *, hopeless: bool = False) -> None:
        self.done: list[str] = []
        self.verdict: Verdict | None = None
        self._status, self._hopeless = status, hopeless
        self.client = cast(
            "Client",
            SimpleNamespace(
                name="acme",
                fleet=SimpleNamespace(worker=SimpleNamespace(bell_grace_s=1.0)),
                settings=lambda: SimpleNamespace(
                    idempotency="key", idempotency_header="Idempotency-Key", key_scope="call"
                ),
                look=lambda: (1, "limits of now"),
                retry_policy=RetryPolicy(),
                ledger=SimpleNamespace(
                    job_params=lambda _: JobParams(kind="calls"), row=lambda *_: ROW
                ),
                caller=lambda: SimpleNamespace(connection=self.connection),
                governor=lambda: SimpleNamespace(admit=lambda *_: GRANT, settle=self.settle),
                refusals=SimpleNamespace(note=self.note, record=self.record),
                tokens=lambda: SimpleNamespace(
                    get=lambda _: cast("Token", SimpleNamespace(headers={})),
                    refused=self.refuse_token,
                    hopeless="to a fresh token",
                ),
            ),
        )

    @contextmanager
    def connection(self) -> Iterator[Any]:
        yield SimpleNamespace(send=lambda *_: Answer(status=self._status))
        self.done.append("gave the connection back")

    def note(self, route: str, tenant: str, answer: Answer) -> str | None:
        self.done.append(f"noted {answer.status} to {route} of {tenant}")
        return REFUSED if self._status == 429 else None

    def refuse_token(self, *_: object) -> bool:
        self.done.append("reported the token")
        return self._hopeless

    def settle(self, _: Grant, verdict: Verdict) -> Settled:
        self.verdict = verdict
        self.done.append("settled")
        return Settled.BACKLOG

    def record(self, refused: str, *_: object) -> None:
        self.done.append(f"recorded {refused}")


def serve(recorder: Recorder) -> list[str]:
    """Serve one bell of the client; returns what was done."""
    step = Celery(set_as_current=False).register_task(step_of(CallSteps(), "calls"))
    step.serve_bell(recorder.client, "key", 1)
    return recorder.done


@pytest.mark.parametrize("status", [200, 503])
def test_an_answer_is_counted_before_it_is_settled(status: int) -> None:
    noted = f"noted {status} to POST /things of -"
    assert serve(Recorder(status)) == [noted, "gave the connection back", "settled"]


def test_a_429_is_recorded_once_it_is_settled() -> None:
    done = serve(Recorder(429))

    assert done[1:] == ["gave the connection back", "settled", f"recorded {REFUSED}"]


@pytest.mark.parametrize("hopeless", [False, True])
def test_a_401_reports_the_token_before_it_is_settled_and_holds_the_client_if_it_was_new(
    *, hopeless: bool
) -> None:
    recorder = Recorder(401, hopeless=hopeless)

    assert serve(recorder)[1:] == ["reported the token", "gave the connection back", "settled"]
    assert isinstance(recorder.verdict, Requeue)
    hold = Pause(TOKEN_REFUSED_HOLD_S, Reach.CLIENT)
    assert recorder.verdict.pause == (hold if hopeless else None)
