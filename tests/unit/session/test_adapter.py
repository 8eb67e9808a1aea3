"""What a call from outside of jobs gives its caller while the store is away."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never

import pytest
import requests

from workers.answer.outcome import Answer
from workers.errors import LedgerDamaged, StoreAway
from workers.session import adapter
from workers.session.limiter import Permit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.errors import HeadgateError


@pytest.mark.parametrize("error", [StoreAway("away"), LedgerDamaged("a key is wrong")], ids=repr)
def test_a_401_is_given_to_the_caller_although_the_store_takes_no_word_of_its_token(
    monkeypatch: pytest.MonkeyPatch, error: HeadgateError
) -> None:
    @contextmanager
    def connection() -> Iterator[Any]:
        yield SimpleNamespace(send=lambda *_: Answer(status=401))

    def refused(*_: object, **__: object) -> Never:
        raise error

    limiter = SimpleNamespace(acquire=lambda *_: Permit("p", 0.0, 0), release=lambda *_, **__: None)
    monkeypatch.setattr(adapter, "Limiter", lambda *_: limiter)
    way = SimpleNamespace(connection=connection, has_idle=lambda: True)
    monkeypatch.setattr(adapter, "Caller", lambda *_: way)
    token = SimpleNamespace(get=lambda _: SimpleNamespace(headers={}), refused=refused)
    client: Any = SimpleNamespace(
        configured=SimpleNamespace(
            base_url="http://provider",
            api_key_header=None,
            idempotency_header="Idempotency-Key",
        ),
        tokens=lambda: token,
    )
    request = requests.Request("GET", "http://provider/things").prepare()

    answer = adapter.GovernedAdapter(client, 1, "-", 1.0).send(request)

    assert answer.status_code == 401
