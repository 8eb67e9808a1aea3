"""What a call from outside of jobs gives its caller while the store is away."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never

import pytest
import requests

from workers.answer.outcome import Answer
from workers.errors import LedgerDamaged, StoreAway
from workers.session import adapter
from workers.session.limiter import Permit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from workers.errors import HeadgateError


def adapter_of(
    monkeypatch: pytest.MonkeyPatch,
    statuses: Iterable[int],
    acquire: Callable[..., Permit],
    token: object,
) -> adapter.GovernedAdapter:
    """An adapter whose calls are answered with these statuses, one after the other."""
    answers = (Answer(status=status) for status in statuses)

    @contextmanager
    def connection() -> Iterator[Any]:
        yield SimpleNamespace(send=lambda *_: next(answers))

    limiter = SimpleNamespace(acquire=acquire, release=lambda *_, **__: None)
    monkeypatch.setattr(adapter, "Limiter", lambda *_: limiter)
    way = SimpleNamespace(connection=connection, has_idle=lambda: True)
    monkeypatch.setattr(adapter, "Caller", lambda *_: way)
    client: Any = SimpleNamespace(
        configured=SimpleNamespace(
            base_url="http://provider",
            api_key_header=None,
            idempotency_header="Idempotency-Key",
        ),
        tokens=lambda: token,
    )
    return adapter.GovernedAdapter(client, 1, "-", 1.0)


@pytest.mark.parametrize("error", [StoreAway("away"), LedgerDamaged("a key is wrong")], ids=repr)
def test_a_401_is_given_to_the_caller_although_the_store_takes_no_word_of_its_token(
    monkeypatch: pytest.MonkeyPatch, error: HeadgateError
) -> None:
    def refused(*_: object, **__: object) -> Never:
        raise error

    token = SimpleNamespace(get=lambda _: SimpleNamespace(headers={}), refused=refused)
    calls = adapter_of(monkeypatch, [401], lambda *_: Permit("p", 0.0, 0), token)
    request = requests.Request("GET", "http://provider/things").prepare()

    answer = calls.send(request)

    assert answer.status_code == 401


def test_a_request_is_known_again_by_method_path_and_body_whatever_its_key_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def acquire(_route: str, _wait_s: float, fingerprint: str) -> Permit:
        seen.append(fingerprint)
        return Permit("p", 0.0, 0)

    token = SimpleNamespace(get=lambda _: None)
    calls = adapter_of(monkeypatch, repeat(200), acquire, token)
    for method, path, body in (
        ("POST", "/people", b"ada"),
        ("POST", "/people", b"ada"),  # its key is another one
        ("POST", "/people", b"bob"),
        ("PUT", "/people", b"ada"),
        ("POST", "/people?dry=1", b"ada"),
    ):
        calls.send(requests.Request(method, f"http://provider{path}", data=body).prepare())

    assert seen[0] == seen[1]
    assert len(set(seen)) == 4
