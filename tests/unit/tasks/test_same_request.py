"""What was sent once under a key is sent again as it was, or not at all; on a real ledger."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from celery import Celery

from orchestration.dispatch.pages import open_next_page
from tasks.rest.calls import CallSteps
from tasks.steps.call import FlowerNote, step_of
from tests.support.apart import settings_apart
from tests.support.stored import a_job, transaction_hash
from workers.answer.outcome import Answer
from workers.auth.credentials import NoCredentials
from workers.clients import Client
from workers.errors import GrantStale
from workers.governor.governor import QUIET_S
from workers.ledger import audit
from workers.ledger.ledger import PageCounts
from workers.settings.client import ClientSettings
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.http.connection import Request
    from workers.store.connection import Store

LOST = Answer(status=None, error="read timeout")
DONE = Answer(status=201, body=b'{"id": "7"}')
TOO_MANY = Answer(status=429)
LIMIT = LimitSettings(name="app", count=1000, burst=500, rate=500, reserve=0)


class Provider:
    """A client on a real store whose requests are kept, and answered as a test says."""

    def __init__(self, store: Store, *, guard: str = "key", **settings: Any) -> None:
        self.us = 1_790_000_000_000_000
        self.store = store
        self.answers: list[Answer | Exception] = []
        self.sent: list[Request] = []
        self.body = "as it was submitted"
        self.headers: dict[str, str] = {}
        self.guard = guard
        self.fleet = settings_apart()
        self.configured = ClientSettings(
            name=uuid4().hex, base_url="http://provider/v1", limits=(LIMIT,), **settings
        )
        self.client = self._open(self.configured)
        self.keys = self.client.keys
        ledger = self.client.ledger
        ledger.begin(a_job("j"))
        ledger.accept("j", 0, [self.row()], PageCounts(calls=2))
        ledger.start("j")
        open_next_page(self.client, "j")
        self.key = self.client.key("j", "r")

    def row(self) -> dict[str, Any]:
        """The row, with the body of now."""
        call: dict[str, Any] = {"method": "POST", "path": "/things", "body": {"name": self.body}}
        call["headers"] = self.headers
        lookup = {"method": "GET", "path": "/things", "found": {"at": "/0"}}
        if self.guard == "lookup":
            call["lookup"] = lookup
        steps = [{**call, "guard": self.guard, "name": name} for name in ("first", "second")]
        return {"line": 1, "id": "r", "steps": steps}

    def _open(self, configured: ClientSettings) -> Client:
        client = Client(configured, self.fleet, self.store, lambda: self.us)
        client._built["caller"] = SimpleNamespace(connection=self.connection)
        client._built["tokens"] = NoCredentials()
        client.retry_policy = replace(client.retry_policy, renews_tokens=True)
        return client

    @contextmanager
    def connection(self) -> Iterator[Any]:
        yield SimpleNamespace(send=self.send)

    def send(self, request: Request, _: int) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.sent.append(request)
        return answer

    def change(self, **settings: Any) -> None:
        """Another process goes on: what the row says is as `body`, and settings are these."""
        self.client = self._open(self.configured.model_copy(update=settings))
        row = self.row()
        self.client.ledger.row = lambda *_: row  # type: ignore[method-assign]

    def serve(self, answer: Answer | Exception, after_s: float = 100) -> None:
        """Time goes by, its bell is rung, and a worker serves it."""
        self.us += round(after_s * 1e6)
        self.client.governor().sweep()  # a countdown whose message was lost, a chain that ended
        for _ in range(40):
            self.us += 25_000
            for bell in self.client.governor().ring("w", 10).bells:
                self.answers = [answer]
                step = Celery(set_as_current=False).register_task(step_of(CallSteps(), "calls"))
                step.request_stack.push(SimpleNamespace(chain=None, callbacks=None))
                step.retry = lambda **_: FlowerNote("counts down")
                with suppress(FlowerNote):
                    step.serve_bell(self.client, bell.key, bell.step)
                return
        raise AssertionError("no bell")

    @property
    def transaction(self) -> dict[str, str]:
        return transaction_hash(self, self.key)

    @property
    def header(self) -> str:
        return self.configured.idempotency_header


@pytest.mark.parametrize("guard", ["key", "upsert"])
def test_after_a_lost_answer_another_body_does_not_leave_and_the_outcome_stays_unknown(
    store: Store, guard: str
) -> None:
    provider = Provider(store, guard=guard)
    provider.serve(LOST)
    provider.body = "as another release writes it"
    provider.change()

    provider.serve(DONE)

    assert len(provider.sent) == 1
    assert provider.transaction["s"] == "unknown"
    assert "another request than was sent first under its key" in provider.transaction["e"]


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "http://provider/v2"},
        {"idempotency_header": "X-Request-Id"},
        {"key_scope": "step"},
    ],
    ids=str,
)
def test_another_address_header_or_key_is_another_request(
    store: Store, settings: dict[str, str]
) -> None:
    provider = Provider(store)
    provider.serve(LOST)
    provider.change(**settings)
    store.delete(provider.client.keys.bound)  # the ledger is not bound to it

    provider.serve(DONE)

    assert (len(provider.sent), provider.transaction["s"]) == (1, "unknown")


def test_the_same_request_goes_out_as_often_as_it_must(store: Store) -> None:
    provider = Provider(store)
    for answer in (LOST, TOO_MANY, LOST, Answer(status=401), LOST):
        provider.serve(answer)
        provider.change(backoff_cap_s=60.0)
    provider.serve(DONE)

    assert len({(it.path, it.body, it.headers[provider.header]) for it in provider.sent}) == 1
    assert (len(provider.sent), provider.transaction["k"]) == (6, "2")


@pytest.mark.parametrize(
    "answer", [TOO_MANY, Answer(status=401), Answer(status=403)], ids=lambda it: str(it.status)
)
def test_what_was_surely_not_executed_goes_out_otherwise_under_a_fresh_key(
    store: Store, answer: Answer
) -> None:
    provider = Provider(store)
    provider.serve(answer)
    provider.body = "as another release writes it"
    provider.change()

    provider.serve(AssertionError("it must not leave"))
    assert "waits for a fresh key" in provider.transaction["e"]
    provider.serve(AssertionError("it must not leave"), after_s=QUIET_S)
    provider.serve(DONE)

    first, second = provider.sent
    assert first.body != second.body
    assert first.headers[provider.header] != second.headers[provider.header]
    assert provider.transaction["k"] == "2"
    (entry,) = audit.read(store, provider.keys)
    assert entry.reason == "another request was sent under it"


def test_what_never_left_may_leave_otherwise(store: Store) -> None:
    provider = Provider(store)
    provider.serve(GrantStale("too late"))
    provider.serve(Answer(error="closed before the send", sent=False))
    provider.body = "as another release writes it"
    provider.change()

    provider.serve(DONE)

    assert (len(provider.sent), provider.transaction["k"]) == (2, "2")  # the first never left


def test_a_replay_sends_what_was_sent_or_nothing(store: Store) -> None:
    provider = Provider(store, max_retries=0)
    provider.serve(LOST)
    provider.body = "as another release writes it"
    provider.change()
    for _ in range(2):
        letter, entry = provider.transaction["d"], audit.addition("dead replay", key=provider.key)
        provider.client.ledger.replay(provider.key, letter, entry)
        provider.serve(DONE)
        assert (len(provider.sent), provider.transaction["s"]) == (1, "unknown")

    provider.body = "as it was submitted"
    provider.change()
    letter = provider.transaction["d"]
    provider.client.ledger.replay(provider.key, letter, entry)
    provider.serve(DONE)

    assert (len(provider.sent), provider.transaction["k"]) == (2, "2")


def test_a_look_up_and_a_read_may_be_another_request(store: Store) -> None:
    provider = Provider(store, guard="lookup")
    provider.serve(LOST)
    provider.body = "as another release writes it"
    provider.change()

    provider.serve(Answer(status=200, body=b'[{"id": "7"}]'))

    assert [it.method for it in provider.sent] == ["POST", "GET"]
    assert provider.transaction["k"] == "2"


def test_what_a_look_up_did_not_find_goes_out_otherwise_only_under_a_fresh_key(
    store: Store,
) -> None:
    provider = Provider(store, guard="lookup", lookups=1)
    provider.serve(LOST)
    provider.serve(Answer(status=404))
    provider.body = "as another release writes it"
    provider.change()

    provider.serve(AssertionError("it must not leave"))

    assert "waits for a fresh key" in provider.transaction["e"]


def test_the_next_step_has_a_request_of_its_own(store: Store) -> None:
    provider = Provider(store)
    provider.serve(LOST)
    provider.serve(DONE)
    assert provider.transaction["sd"] == ""
    provider.body = "the body of another step"
    provider.change()

    provider.serve(DONE)

    assert provider.transaction["s"] == "succeeded"


@pytest.mark.parametrize(("scope", "keys"), [("transaction", 1), ("step", 2)])
def test_the_steps_share_a_key_or_have_one_each(store: Store, scope: str, keys: int) -> None:
    provider = Provider(store, key_scope=scope)

    provider.serve(DONE)
    provider.serve(DONE)

    assert len({it.headers[provider.header] for it in provider.sent}) == keys
    assert (len(provider.sent), provider.transaction["s"]) == (2, "succeeded")


@pytest.mark.parametrize(
    ("given", "sent"), [({}, "application/json"), ({"accept": "text/csv"}, "text/csv")]
)
def test_a_call_asks_for_json_unless_its_row_asks_for_something_else(
    store: Store, given: dict[str, str], sent: str
) -> None:
    provider = Provider(store)
    provider.headers = given
    provider.change()

    provider.serve(DONE)

    (request,) = provider.sent
    assert [v for name, v in request.headers.items() if name.lower() == "accept"] == [sent]
