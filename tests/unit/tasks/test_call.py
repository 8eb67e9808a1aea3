"""What the main path does about an answer, and in which order."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never, cast

import pytest
from celery import Celery

from tasks.rest.calls import CallSteps
from tasks.steps import call
from tasks.steps.call import step_of
from tasks.steps.reading import read_probe
from workers.answer.guards import Memo
from workers.answer.judging import RetryPolicy
from workers.answer.outcome import Answer, Health, Outcome
from workers.answer.verdict import UNSENT, Requeue, Retry
from workers.errors import ConfigError, LedgerDamaged, StoreAway, TokenUnavailable
from workers.governor.grants import Grant, Hindrance, PutBack, Settled
from workers.governor.obstacle import Obstacle
from workers.governor.registry import WORKER_ID
from workers.http.connection import ConnectFailed
from workers.ledger.batch import Place
from workers.ledger.job import JobParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.answer.verdict import Verdict
    from workers.auth.credentials import Token
    from workers.clients import Client
    from workers.errors import HeadgateError
    from workers.http.request import Request

GRANT = Grant("key", 1, "fence", 0.0, 0, "job", Place(0, 0), 0, False, 0, [])  # noqa: FBT003
ROW: dict[str, Any] = {"line": 1, "id": "r", "steps": [{"method": "POST", "path": "/things"}]}
REFUSED = "what the 429 says"


class Recorder:
    """A client whose parts write down what is asked of them."""

    def __init__(self, status: int, *, renews: bool = True, probe: str | None = None) -> None:
        self.done: list[str] = []
        self.verdict: Verdict | None = None
        self.sent: list[Request] = []
        self.grant = GRANT
        self._status, self._renews = status, renews
        self.client = cast(
            "Client",
            SimpleNamespace(
                name="acme",
                fleet=SimpleNamespace(worker=SimpleNamespace(bell_grace_s=1.0)),
                settings=lambda: SimpleNamespace(
                    idempotency="key",
                    idempotency_header="Idempotency-Key",
                    key_scope="call",
                    base_url="http://provider",
                    probe=probe,
                ),
                look=lambda: (1, "limits of now"),
                retry_policy=RetryPolicy(),
                ledger=SimpleNamespace(
                    job_params=lambda _: JobParams(kind="calls"), row=lambda *_: ROW
                ),
                caller=lambda: SimpleNamespace(connection=self.connection),
                governor=lambda: SimpleNamespace(admit=lambda *_: self.grant, settle=self.settle),
                refusals=SimpleNamespace(note=self.note, record=self.record),
                tokens=lambda: SimpleNamespace(
                    get=lambda _: cast("Token", SimpleNamespace(headers={})),
                    newest=self.newest_token,
                    refused=self.refuse_token,
                    worked=self.worked,
                ),
            ),
        )

    def newest_token(self, _wait_s: float) -> Token:
        return cast("Token", SimpleNamespace(headers={"Authorization": "newest"}))

    def worked(self, _token: object, *, again: bool) -> None:
        if again:
            self.done.append("said that renewing helped")

    @contextmanager
    def connection(self) -> Iterator[Any]:
        yield SimpleNamespace(send=self.send)
        self.done.append("gave the connection back")

    def send(self, request: Request, _: int) -> Answer:
        self.sent.append(request)
        return Answer(status=self._status)

    def note(self, route: str, tenant: str, answer: Answer) -> str | None:
        self.done.append(f"noted {answer.status} to {route} of {tenant}")
        return REFUSED if self._status == 429 else None

    def refuse_token(self, _: Token, *, again: bool) -> bool:
        self.done.append("reported the token" + (" again" if again else ""))
        return self._renews

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


@pytest.mark.parametrize("renews", [True, False])
def test_a_401_reports_the_token_before_it_is_settled_and_comes_back_at_once_if_that_is_renewed(
    *, renews: bool
) -> None:
    recorder = Recorder(401, renews=renews)

    done = serve(recorder)

    assert done[0] == "reported the token"
    assert done[-2:] == ["gave the connection back", "settled"]
    assert isinstance(recorder.verdict, Requeue)
    assert not recorder.verdict.attempt
    assert recorder.verdict.delay_s == (0 if renews else 1)


@pytest.mark.parametrize("error", [StoreAway("away"), LedgerDamaged("a key is wrong")], ids=repr)
@pytest.mark.parametrize("status", [200, 401])
def test_an_answer_is_settled_although_the_store_takes_no_word_of_its_token(
    status: int, error: HeadgateError
) -> None:
    recorder = Recorder(status)

    def refuse_word(*_: object, **__: object) -> Never:
        raise error

    recorder.refuse_token = recorder.worked = refuse_word  # type: ignore[assignment]

    assert serve(recorder)[-2:] == ["gave the connection back", "settled"]


@pytest.mark.parametrize("error", [StoreAway("away"), LedgerDamaged("a key is wrong")], ids=repr)
def test_a_429_that_cannot_be_recorded_is_settled_all_the_same(error: HeadgateError) -> None:
    recorder = Recorder(429)

    def look() -> Never:
        raise error

    recorder.client.look = look  # type: ignore[method-assign]

    assert serve(recorder)[-1] == "settled"


def test_a_second_401_in_a_row_is_an_attempt_of_its_row_although_the_token_is_renewed() -> None:
    recorder = Recorder(401)
    recorder.grant = GRANT._replace(memo=Memo(token_refusals=1))

    assert serve(recorder)[0] == "reported the token again"

    assert isinstance(recorder.verdict, Retry)
    assert recorder.verdict.attempt


@pytest.mark.parametrize(("refusals", "carries"), [(0, None), (1, "newest")])
def test_after_a_401_a_call_goes_out_with_the_fleets_newest_token(
    refusals: int, carries: str | None
) -> None:
    recorder = Recorder(201)
    recorder.grant = GRANT._replace(memo=Memo(token_refusals=refusals))

    serve(recorder)

    assert recorder.sent[0].headers.get("Authorization") == carries


def test_where_the_newest_token_is_away_the_call_is_not_sent_and_spends_nothing() -> None:
    recorder = Recorder(201)
    recorder.grant = GRANT._replace(memo=Memo(token_refusals=1))

    def refuse(_: float) -> Never:
        raise TokenUnavailable("being asked for")

    recorder.newest_token = refuse  # type: ignore[method-assign]

    assert serve(recorder)[-1] == "settled"
    assert (recorder.sent, recorder.verdict) == ([], UNSENT)


def test_an_answer_after_a_401_says_that_renewing_helped() -> None:
    recorder = Recorder(201)
    recorder.grant = GRANT._replace(memo=Memo(token_refusals=1))

    assert serve(recorder)[0] == "said that renewing helped"


def test_a_403_reports_the_token_like_a_401_for_it_may_have_ended_early() -> None:
    recorder = Recorder(403)

    assert serve(recorder)[0] == "reported the token"

    assert isinstance(recorder.verdict, Requeue)
    assert not recorder.verdict.attempt


@pytest.mark.parametrize(("status", "health"), [(200, Health.GOOD), (503, Health.BAD)])
def test_the_clients_own_probe_goes_in_the_place_of_a_call_that_nothing_guards(
    status: int, health: Health
) -> None:
    recorder = Recorder(status, probe="/status")
    recorder.grant = GRANT._replace(checks=True)

    serve(recorder)

    ((request),) = recorder.sent
    assert (request.method, request.path) == ("GET", "/status")
    assert isinstance(recorder.verdict, Requeue)
    assert (recorder.verdict.health, recorder.verdict.attempt) == (health, False)
    assert recorder.verdict.outcome is Outcome.NOT_EXECUTED


def test_no_answer_to_a_probe_holds_its_scope_for_longer_than_a_quarter_of_an_hour() -> None:
    answer = Answer(status=503, headers={"retry-after": "86400"})

    assert read_probe(answer).retry_after_s == 900


def test_without_a_probe_of_the_client_the_call_itself_is_the_probe() -> None:
    recorder = Recorder(200)
    recorder.grant = GRANT._replace(checks=True)

    serve(recorder)

    assert [request.path for request in recorder.sent] == ["/things"]


def fail_to_connect(recorder: Recorder, error: HeadgateError, follows: PutBack) -> list[Hindrance]:
    """Let no connection come about, and the store say what follows; returns what it is told."""
    told: list[Hindrance] = []

    def put_back(_key: str, _step: int, hindrance: Hindrance, _asker: object) -> PutBack:
        told.append(hindrance)
        return follows

    def connection() -> Never:
        raise error

    recorder.client.put_back = put_back  # type: ignore[assignment]
    recorder.client.obstacle = Obstacle("acme")
    recorder.client.caller = lambda: SimpleNamespace(connection=connection)  # type: ignore[assignment, return-value]
    return told


@pytest.mark.parametrize(
    ("error", "follows", "is_obstacle"),
    [
        (ConnectFailed("no way", failing_s=2), PutBack.OWN, True),
        (ConnectFailed("no way", failing_s=0.5), PutBack.OWN, False),
        (ConnectFailed("no way", failing_s=2), PutBack.PLAIN, False),
        (ConfigError("no CA file"), PutBack.PLAIN, True),
        (TokenUnavailable("a wrong secret", refused=True), PutBack.PLAIN, True),
        (TokenUnavailable("another thread asks for it"), PutBack.PLAIN, False),
        (TokenUnavailable("the endpoint is away"), PutBack.PAUSED, False),
    ],
)
def test_only_what_keeps_this_process_alone_from_a_call_is_an_obstacle(
    error: HeadgateError, follows: PutBack, *, is_obstacle: bool
) -> None:
    recorder = Recorder(200)
    told = fail_to_connect(recorder, error, follows)

    assert serve(recorder) == []

    assert bool(recorder.client.obstacle.why) is is_obstacle
    (hindrance,) = told
    if isinstance(error, ConnectFailed):
        assert (hindrance.process, hindrance.failing_s) == (WORKER_ID, error.failing_s)


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_connects_again_says_so_once_and_not_by_an_older_connection(
    monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    monkeypatch.setattr(call, "_warned", {"acme": "no way"})
    recorder, noted = Recorder(200), list[str]()
    recorder.client.caller = lambda: SimpleNamespace(  # type: ignore[assignment, return-value]
        connection=recorder.connection, route=SimpleNamespace(fails=fails)
    )
    governor = recorder.client.governor()
    governor.note_connected = noted.append  # type: ignore[method-assign]
    recorder.client.governor = lambda: governor  # type: ignore[method-assign]

    serve(recorder)
    serve(recorder)

    assert noted == ([] if fails else [WORKER_ID])
