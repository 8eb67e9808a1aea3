"""What a call from outside of jobs gives its caller while the store is away."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never

import pytest
import requests

from workers.answer.outcome import Answer, RefusedToken
from workers.errors import LedgerDamaged, StoreAway
from workers.session import adapter
from workers.session.limiter import Permit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.errors import HeadgateError


def send_one(
    monkeypatch: pytest.MonkeyPatch, statuses: list[int], refused: Callable[..., RefusedToken]
) -> requests.Response:
    """Send one call, which is answered with these statuses one after the other."""

    @contextmanager
    def connection() -> Iterator[Any]:
        yield SimpleNamespace(send=lambda *_: Answer(status=statuses.pop(0)))

    limiter = SimpleNamespace(acquire=lambda *_: Permit("p", 0.0, 0), release=lambda *_, **__: None)
    monkeypatch.setattr(adapter, "Limiter", lambda *_: limiter)
    way = SimpleNamespace(connection=connection, has_idle=lambda: True)
    monkeypatch.setattr(adapter, "Caller", lambda *_: way)
    token = SimpleNamespace(
        get=lambda _: SimpleNamespace(headers={}), refused=refused, worked=lambda _: None
    )
    client: Any = SimpleNamespace(
        configured=SimpleNamespace(
            base_url="http://provider",
            api_key_header=None,
            idempotency_header="Idempotency-Key",
        ),
        tokens=lambda: token,
    )
    request = requests.Request("GET", "http://provider/things").prepare()
    return adapter.GovernedAdapter(client, 1, "-", 1.0).send(request)


@pytest.mark.parametrize("error", [StoreAway("away"), LedgerDamaged("a key is wrong")], ids=repr)
def test_a_401_is_given_to_the_caller_although_the_store_takes_no_word_of_its_token(
    monkeypatch: pytest.MonkeyPatch, error: HeadgateError
) -> None:
    def refused(*_: object, **__: object) -> Never:
        raise error

    answer = send_one(monkeypatch, [401], refused)

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("tokens", "status"),
    [
        ([RefusedToken.RENEWED, RefusedToken.OLD], 200),
        ([RefusedToken.OLD, RefusedToken.OLD], 200),
        ([RefusedToken.RENEWED, RefusedToken.RENEWED], 401),
        ([RefusedToken.RENEWED, RefusedToken.KEPT], 401),
    ],
)
def test_a_second_401_is_given_to_the_caller_unless_its_token_was_known_to_be_refused(
    monkeypatch: pytest.MonkeyPatch, tokens: list[RefusedToken], status: int
) -> None:
    fates = list(tokens)

    answer = send_one(monkeypatch, [401, 401, 200], lambda *_, **__: fates.pop(0))

    assert answer.status_code == status
