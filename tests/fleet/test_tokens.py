"""One access token for the fleet: real processes, a real store, a token server that counts."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from workers import failpoints
from workers.answer.outcome import Answer
from workers.auth import tokens as auth_tokens
from workers.auth.token_forms import read_token
from workers.auth.tokens import Tokens
from workers.errors import StoreAway, TokenUnavailable
from workers.settings.client import ClientSettings
from workers.store.connection import Store, connect
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workers.auth.credentials import Token

SECRET = "canary-secret"
REFUSES = "client acme: the token endpoint refuses the client id or secret"


class TokenServer(ThreadingHTTPServer):
    """Hands out token-1, token-2, …; `meanwhile` comes before the answer, `say` instead of it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/oauth/token"
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.lifetime_s: float = 3600
        self.say: tuple[int, dict[str, str], bytes] | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.path, headers, self.rfile.read(size).decode()))
        token = {
            "access_token": f"token-{len(self.server.asked)}",
            "token_type": "bearer",
            "expires_in": self.server.lifetime_s,
        }
        self.server.meanwhile()
        status, more, body = self.server.say or (200, {}, json.dumps(token).encode())
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- as the library
        del format, args


class HeldClock:
    """The store's clock and the process's, moved by the test only."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us

    def now_ns(self) -> int:
        return self.us * 1_000

    def pass_s(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with closing(TokenServer()) as it:
        yield it


@pytest.fixture
def keys() -> ClientKeys:
    return ClientKeys(f"t{uuid.uuid4().hex}", "acme")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HeldClock:
    it = HeldClock()
    monkeypatch.setattr(auth_tokens, "now_ns", it.now_ns)
    return it


@pytest.fixture(autouse=True)
def _secret_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_SECRET", SECRET)


def a_client(token_url: str | None, **settings: Any) -> ClientSettings:
    about = {
        "name": "acme",
        "base_url": "http://127.0.0.1:1",
        "token_url": token_url,
        "client_id": "canary-id",
        "client_secret_env": "ACME_SECRET",
    }
    return ClientSettings(**{**about, **settings})


def value_of(token: Token | None) -> str:
    assert token is not None
    return token.value.get_secret_value()


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < deadline, "did not happen within 15 s"
        time.sleep(0.005)


# Asking


def test_the_secret_travels_as_basic_authorization(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    token = Tokens(a_client(server.url + "?realm=a%20b"), store, keys).get()

    path, headers, form = server.asked[0]
    assert value_of(token) == "token-1"
    assert path == "/oauth/token?realm=a%20b"
    assert (
        headers["authorization"] == "Basic " + base64.b64encode(b"canary-id:canary-secret").decode()
    )
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert form == "grant_type=client_credentials"


def test_the_secret_travels_in_the_form_when_the_provider_wants_it_there(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    Tokens(a_client(server.url, token_auth="form"), store, keys).get()

    _, headers, form = server.asked[0]
    assert "authorization" not in headers
    assert form == "grant_type=client_credentials&client_id=canary-id&client_secret=canary-secret"


def test_asking_for_a_token_is_no_governed_call(
    store: Store, keys: ClientKeys, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    monkeypatch.setattr(failpoints, "reach", reached.append)

    Tokens(a_client(server.url), store, keys).get()

    assert reached == []


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"access_token": "t", "token_type": "Bearer", "expires_in": 60}, ("t", 60.0)),
        ({"access_token": "t", "expires_in": 1.5}, ("t", 1.5)),
        ({"access_token": "t"}, ("t", 300.0)),
        ({"access_token": "t", "expires_in": None}, ("t", 300.0)),
        ({"access_token": "t", "expires_in": 10**300}, ("t", 30 * 86_400.0)),
    ],
)
def test_a_token_without_a_lifetime_lives_five_minutes_and_none_lives_for_ever(
    answer: dict[str, Any], found: tuple[str, float]
) -> None:
    assert read_token(Answer(status=200, body=json.dumps(answer).encode())) == found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"canary",
        b"[]",
        b"{}",
        b'{"access_token":null}',
        b'{"access_token":7}',
        b'{"access_token":""}',
        b'{"access_token":"canary\\r\\nX: 1"}',
        b'{"access_token":"canary token"}',
        '{"access_token":"tökén"}'.encode(),
        b'{"access_token":"canary","token_type":"mac"}',
        b'{"access_token":"canary","token_type":null}',
        b'{"access_token":"canary","expires_in":"3600"}',
        b'{"access_token":"canary","expires_in":true}',
        b'{"access_token":"canary","expires_in":[]}',
        b'{"access_token":"canary","expires_in":0}',
        b'{"access_token":"canary","expires_in":-1}',
        b'{"access_token":"canary","expires_in":1e999}',
        b'{"access_token":"canary","expires_in":NaN}',
    ],
)
def test_an_answer_that_is_no_token_is_unavailable_and_not_quoted(
    store: Store, keys: ClientKeys, server: TokenServer, body: bytes
) -> None:
    server.say = (200, {}, body)

    with pytest.raises(TokenUnavailable, match="gave no usable access token") as caught:
        Tokens(a_client(server.url), store, keys).get()

    assert not caught.value.refused
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "text", "refused"),
    [
        (
            401,
            b'{"error":"invalid_client","error_description":"canary"}',
            f"{REFUSES} (401 invalid_client); check client_id and client_secret_env",
            True,
        ),
        (
            400,
            b"canary",
            f"{REFUSES} (400); check client_id and client_secret_env",
            True,
        ),
        (
            403,
            b"{}",
            f"{REFUSES} (403); check client_id and client_secret_env",
            True,
        ),
        (404, b"", "client acme: the token endpoint answered 404; check token_url", True),
        (302, b"", "client acme: the token endpoint answered 302; check token_url", True),
        (408, b"", "client acme: the token endpoint answered 408", False),
        (429, b"", "client acme: the token endpoint answered 429", False),
        (503, b"canary", "client acme: the token endpoint answered 503", False),
    ],
)
def test_an_endpoint_that_gives_none_says_whether_a_person_must_act(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    status: int,
    body: bytes,
    text: str,
    refused: bool,  # noqa: FBT001 -- a row of a table
) -> None:
    server.say = (status, {"Location": "/oauth/token"}, body)

    with pytest.raises(TokenUnavailable) as caught:
        Tokens(a_client(server.url), store, keys).get()

    assert (str(caught.value), caught.value.refused) == (text, refused)
    assert len(server.asked) == 1


def test_an_endpoint_that_is_away_is_named_and_no_person_must_act(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    server.close()

    with pytest.raises(
        TokenUnavailable, match=f"no connection to 127.0.0.1:{server.server_port}"
    ) as it:
        Tokens(a_client(server.url), store, keys).get()

    assert not it.value.refused


def test_a_secret_that_is_not_there_must_be_set_by_a_person(
    store: Store, keys: ClientKeys, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACME_SECRET")

    with pytest.raises(TokenUnavailable, match="ACME_SECRET is not set") as caught:
        Tokens(a_client(server.url), store, keys).get()

    assert caught.value.refused
    assert server.asked == []


def test_no_token_while_the_store_is_away(keys: ClientKeys, server: TokenServer) -> None:
    away = connect("redis://127.0.0.1:1", timeout_s=1)

    with pytest.raises(StoreAway):
        Tokens(a_client(server.url), away, keys).get()

    assert server.asked == []


# One token for all


def test_a_token_is_kept_in_the_process_and_shared_through_the_store(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    here, there = (Tokens(a_client(server.url), store, keys) for _ in range(2))

    tokens = [here.get(), here.get(), there.get()]
    store.delete(keys.oauth)
    tokens.append(here.get())

    assert {value_of(it) for it in tokens} == {"token-1"}
    assert len(server.asked) == 1


def test_a_token_at_rest_cannot_be_read_without_the_secret(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    token = Tokens(a_client(server.url), store, keys).get()

    at_rest = json.dumps(store.hgetall(keys.oauth))
    assert value_of(token) == "token-1"
    assert "generation" in at_rest
    for secret in ("token-1", SECRET, base64.b64encode(b"token-1").decode().rstrip("=")):
        assert secret not in at_rest
    assert "token-1" not in repr(token)


def test_threads_that_start_together_ask_store_and_provider_once(
    store: Store, keys: ClientKeys, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(a_client(server.url), store, keys)
    scripts, asked = tokens._shelf._scripts, []

    def record(name: str, *args: Any) -> Any:
        asked.append(name)
        return scripts(name, *args)

    monkeypatch.setattr(tokens._shelf, "_scripts", record)

    with ThreadPoolExecutor(32) as threads:
        found = set(threads.map(lambda _: value_of(tokens.get()), range(32)))

    assert found == {"token-1"}
    assert asked == ["token_look", "token_keep"]
    assert len(server.asked) == 1


RACER = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from workers.store.keys import ClientKeys
from workers.auth.tokens import Tokens
from workers.settings.client import ClientSettings
from workers.store.connection import connect

store_url, namespace, token_url = sys.argv[1:]
client = ClientSettings(name="acme", base_url="http://127.0.0.1:1", token_url=token_url,
                        client_id="canary-id", client_secret_env="ACME_SECRET")
store = connect(store_url)
tokens = Tokens(client, store, ClientKeys(namespace, "acme"))

def together(name):
    store.incr(name)
    while int(store.get(name)) < 4:
        time.sleep(0.01)

def again(_):
    renewed = tokens.refused(token)
    return renewed, tokens.get().generation

with ThreadPoolExecutor(16) as threads:
    together(namespace + ":start")
    first = list(threads.map(lambda _: tokens.get().generation, range(16)))
    token = tokens.get()
    together(namespace + ":refused")
    second = list(threads.map(again, first))
print(json.dumps([first, second]))
"""


def test_four_processes_of_sixteen_threads_ask_once_and_once_more_after_a_refusal(
    store: Store, store_url: str, keys: ClientKeys, server: TokenServer
) -> None:
    del store
    command = [sys.executable, "-c", RACER, store_url, keys.namespace, server.url]
    fleet = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]

    said = [json.loads(it.communicate(timeout=60)[0]) for it in fleet]

    first = {generation for generations, _ in said for generation in generations}
    second = {generation for _, pairs in said for _, generation in pairs}
    assert len(server.asked) == 2
    assert (len(first), len(second)) == (1, 1)
    assert min(second) > max(first)


def test_who_has_no_token_waits_for_the_one_who_asks(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    here, there = (Tokens(a_client(server.url), store, keys) for _ in range(2))
    go_on = threading.Event()
    server.meanwhile = lambda: go_on.wait(15)

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(here.get)
        eventually(lambda: len(server.asked) == 1)
        rest = [threads.submit(it.get) for it in (here, there, there)]
        assert not any(it.done() for it in rest)
        go_on.set()
        found = {value_of(it.result(15)) for it in (first, *rest)}

    assert found == {"token-1"}
    assert len(server.asked) == 1


def test_who_waits_gives_up_after_the_timeouts_of_one_request(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    store.set(keys.oauth_lock, "somebody")
    tokens = Tokens(a_client(server.url, connect_timeout_s=0.1, read_timeout_s=0.2), store, keys)

    with ThreadPoolExecutor(8) as threads:
        waits = [threads.submit(tokens.get) for _ in range(8)]
        errors = [it.exception(15) for it in waits]

    assert {type(it) for it in errors} == {TokenUnavailable}
    assert "no access token came within 0.3 s" in str(errors[0])
    assert server.asked == []


def test_the_lock_of_a_killed_process_expires(
    store: Store, store_url: str, keys: ClientKeys, server: TokenServer
) -> None:
    stop = threading.Event()
    server.meanwhile = lambda: stop.wait(15)
    script = RACER.replace("< 4", "< 1")
    command = [sys.executable, "-c", script, store_url, keys.namespace, server.url]
    with subprocess.Popen(command) as process:
        eventually(lambda: len(server.asked) == 1)
        process.send_signal(signal.SIGKILL)
    stop.set()

    left_ms = store.pttl(keys.oauth_lock)
    store.delete(keys.oauth_lock)  # as its time does
    token = Tokens(a_client(server.url), store, keys).get()

    assert 0 < left_ms <= 45_000
    assert value_of(token) == "token-2"


def test_who_lost_the_lock_while_asking_neither_writes_nor_frees_it(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    server.meanwhile = lambda: store.set(keys.oauth_lock, "another")
    tokens = Tokens(a_client(server.url, connect_timeout_s=0.1, read_timeout_s=0.5), store, keys)

    with pytest.raises(TokenUnavailable):
        tokens.get()

    assert store.get(keys.oauth_lock) == "another"
    assert store.hgetall(keys.oauth) == {}


def test_who_lost_the_lock_and_failed_tells_nobody(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    server.meanwhile = lambda: store.set(keys.oauth_lock, "another")
    server.say = (401, {}, b"")

    with pytest.raises(TokenUnavailable):
        Tokens(a_client(server.url), store, keys).get()

    assert store.get(keys.oauth_lock) == "another"
    assert store.hgetall(keys.oauth) == {}


# Renewal


@pytest.mark.parametrize(
    ("lifetime_s", "least_s", "most_s"),
    [
        (86_400, 60, 300),
        (3_600, 60, 300),
        (1_000, 60, 200),
        (250, 50, 50),
        (10, 2, 2),
        (1, 0.2, 0.2),
    ],
)
def test_a_token_is_renewed_one_to_five_minutes_ahead_and_never_before_its_last_fifth(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    clock: HeldClock,
    lifetime_s: float,
    least_s: float,
    most_s: float,
) -> None:
    server.lifetime_s = lifetime_s
    tokens = Tokens(a_client(server.url), store, keys, clock)

    tokens.get()

    kept = {
        name: float(text) for name, text in store.hgetall(keys.oauth).items() if name != "token"
    }
    assert kept["expires_us"] - kept["asked_us"] == lifetime_s * 1e6
    assert least_s <= (kept["expires_us"] - kept["renew_us"]) / 1e6 <= most_s


def test_a_token_is_used_until_its_renewal_is_due_and_renewed_then(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    server.lifetime_s = 100
    tokens = Tokens(a_client(server.url), store, keys, clock)
    first = tokens.get()

    clock.pass_s(79.9)
    assert tokens.get() == first
    clock.pass_s(0.2)
    second = tokens.get()

    assert value_of(second) == "token-2"
    assert len(server.asked) == 2


def test_lifetimes_of_seconds_work(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    server.lifetime_s = 2
    tokens = Tokens(a_client(server.url), store, keys, clock)

    values = []
    for _ in range(5):
        values += [value_of(tokens.get()), value_of(tokens.get())]
        clock.pass_s(1.7)

    assert values == [f"token-{n}" for n in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)]


def test_while_one_renews_all_others_go_on_with_the_old_token(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    server.lifetime_s = 100
    here, there = (Tokens(a_client(server.url), store, keys, clock) for _ in range(2))
    here.get(), there.get()
    go_on = threading.Event()
    server.meanwhile = lambda: go_on.wait(15)
    clock.pass_s(90)

    with ThreadPoolExecutor(1) as threads:
        renewing = threads.submit(here.get)
        eventually(lambda: len(server.asked) == 2)
        meanwhile = [value_of(it.get()) for it in (here, there, here, there)]
        go_on.set()
        renewed = value_of(renewing.result(15))

    assert meanwhile == ["token-1"] * 4
    assert renewed == "token-2"
    assert len(server.asked) == 2


def test_a_process_that_still_has_the_old_token_finds_the_new_one_within_a_second(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    server.lifetime_s = 100
    here, there = (Tokens(a_client(server.url), store, keys, clock) for _ in range(2))
    here.get(), there.get()
    clock.pass_s(90)
    store.set(keys.oauth_lock, "third")
    assert value_of(there.get()) == "token-1"
    store.delete(keys.oauth_lock)
    here.get()

    assert value_of(there.get()) == "token-1"
    clock.pass_s(1)
    assert value_of(there.get()) == "token-2"


def test_a_renewal_that_fails_leaves_the_old_token_in_use_until_its_end(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    server.lifetime_s = 100
    tokens = Tokens(a_client(server.url), store, keys, clock)
    tokens.get()
    server.say = (503, {}, b"")

    clock.pass_s(90)
    assert [value_of(tokens.get()) for _ in range(20)] == ["token-1"] * 20
    assert len(server.asked) == 2
    clock.pass_s(11)
    with pytest.raises(TokenUnavailable):
        tokens.get()


def test_an_expired_token_is_never_used(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    server.lifetime_s = 100
    tokens = Tokens(a_client(server.url, read_timeout_s=0.1), store, keys, clock)
    tokens.get()
    server.say = (503, {}, b"")

    clock.pass_s(100)

    with pytest.raises(TokenUnavailable):
        tokens.get()


def test_a_store_clock_that_was_set_back_makes_no_token_live_longer(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    clock: HeldClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.lifetime_s = 100
    Tokens(a_client(server.url), store, keys, clock).get()
    process = HeldClock()
    monkeypatch.setattr(auth_tokens, "now_ns", process.now_ns)
    clock.pass_s(-3_600)
    tokens = Tokens(a_client(server.url), store, keys, clock)
    assert value_of(tokens.get()) == "token-1"

    process.pass_s(101)
    clock.pass_s(3_701)

    assert value_of(tokens.get()) == "token-2"


def test_a_changed_secret_is_picked_up_and_its_tokens_stay_apart(
    store: Store, keys: ClientKeys, server: TokenServer, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    client = a_client(server.url, client_secret_env=None, client_secret_file=file)
    file.write_text("old\n")
    tokens = Tokens(client, store, keys)
    old = tokens.get()
    file.write_text("new\n")

    elsewhere = Tokens(client, store, keys).get()

    sent = [base64.b64decode(it[1]["authorization"].split()[1]) for it in server.asked]
    assert [value_of(old), value_of(elsewhere)] == ["token-1", "token-2"]
    assert sent == [b"canary-id:old", b"canary-id:new"]


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    it = tmp_path / "secret"
    it.write_text("old\n")
    return it


def on_file(server: TokenServer, file: Path) -> ClientSettings:
    return a_client(server.url, client_secret_env=None, client_secret_file=file)


def test_a_process_asks_for_a_new_token_within_a_second_of_a_change_of_the_secret(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock, secret_file: Path
) -> None:
    here, there = (Tokens(on_file(server, secret_file), store, keys, clock) for _ in range(2))
    here.get(), there.get()
    secret_file.write_text("new\n")

    clock.pass_s(0.9)
    before = value_of(here.get())
    clock.pass_s(0.2)
    after = [value_of(it.get()) for it in (here, there, here, there)]

    assert (before, after) == ("token-1", ["token-2"] * 4)
    assert len(server.asked) == 2


def test_a_secret_that_is_away_for_a_moment_ends_no_valid_token(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock, secret_file: Path
) -> None:
    tokens = Tokens(on_file(server, secret_file), store, keys, clock)
    tokens.get()
    secret_file.write_text("")

    clock.pass_s(2)

    assert value_of(tokens.get()) == "token-1"


def test_a_new_secret_that_is_wrong_is_told_although_the_old_token_is_valid(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock, secret_file: Path
) -> None:
    tokens = Tokens(on_file(server, secret_file), store, keys, clock)
    tokens.get()
    secret_file.write_text("wrong\n")
    server.say = (401, {}, b"{}")
    clock.pass_s(2)

    with pytest.raises(TokenUnavailable, match="check client_id and client_secret_file"):
        tokens.get()

    secret_file.write_text("old\n")
    assert value_of(tokens.get()) == "token-1"


def test_a_new_secret_while_the_endpoint_is_away_leaves_the_old_token_in_use(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock, secret_file: Path
) -> None:
    tokens = Tokens(on_file(server, secret_file), store, keys, clock)
    tokens.get()
    secret_file.write_text("new\n")
    server.say = (503, {}, b"")
    clock.pass_s(2)

    assert [value_of(tokens.get()) for _ in range(20)] == ["token-1"] * 20
    assert len(server.asked) == 2
    server.say = None
    clock.pass_s(2)
    assert value_of(tokens.get()) == "token-3"


def test_a_token_belongs_to_the_password_of_the_user_too(
    store: Store, keys: ClientKeys, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = a_client(server.url, auth="password", username="u", password_env="ACME_PASSWORD")
    monkeypatch.setenv("ACME_PASSWORD", "old")
    values = [value_of(Tokens(client, store, keys).get()) for _ in range(2)]
    monkeypatch.setenv("ACME_PASSWORD", "new")

    values.append(value_of(Tokens(client, store, keys).get()))

    assert values == ["token-1", "token-1", "token-2"]


def test_a_store_that_forgot_everything_gets_a_larger_generation(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    first = Tokens(a_client(server.url), store, keys).get()
    store.delete(keys.oauth)

    second = Tokens(a_client(server.url), store, keys).get()

    assert first
    assert second
    assert second.generation > first.generation


# Failures are told to everybody


def test_a_wrong_secret_is_not_tried_by_every_thread_of_the_fleet(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    server.say = (401, {}, b'{"error":"invalid_client"}')
    here, there = (Tokens(a_client(server.url), store, keys, clock) for _ in range(2))

    with ThreadPoolExecutor(32) as threads:
        calls = [threads.submit(it.get) for it in (here, there) for _ in range(16)]
        errors = [it.exception(15) for it in calls]

    assert {str(it) for it in errors} == {
        f"{REFUSES} (401 invalid_client); check client_id and client_secret_env"
    }
    assert all(isinstance(it, TokenUnavailable) and it.refused for it in errors)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers", "quiet_s"),
    [
        (401, {}, 5.0),
        (503, {}, 1.0),
        (429, {"Retry-After": "20"}, 20.0),
        (429, {"Retry-After": "9999"}, 60.0),
        (429, {"Retry-After": "soon"}, 1.0),
    ],
)
def test_after_a_quiet_time_the_endpoint_is_asked_again(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    clock: HeldClock,
    status: int,
    headers: dict[str, str],
    quiet_s: float,
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    server.say = (status, headers, b"")
    with pytest.raises(TokenUnavailable):
        tokens.get()
    server.say = None

    clock.pass_s(quiet_s - 0.01)
    with pytest.raises(TokenUnavailable):
        tokens.get()
    assert len(server.asked) == 1
    clock.pass_s(0.02)

    assert value_of(tokens.get()) == "token-2"


# Refusals


def test_after_a_refusal_the_token_is_renewed_once_however_many_report_it(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    here, there = (Tokens(a_client(server.url), store, keys) for _ in range(2))
    token = here.get()
    there.get()
    assert token

    for tokens in (here, here, there):
        assert tokens.refused(token)
    values = {value_of(it.get()) for it in (here, there, here)}
    for tokens in (here, there):
        assert tokens.refused(token)  # it was renewed before
    values |= {value_of(it.get()) for it in (here, there)}

    assert values == {"token-2"}
    assert len(server.asked) == 2


def test_the_newest_token_is_that_of_the_fleet_whatever_this_process_still_has(
    store: Store, keys: ClientKeys, server: TokenServer
) -> None:
    here, there = (Tokens(a_client(server.url), store, keys) for _ in range(2))
    first = here.get()
    assert there.get() == first

    here.refused(first)

    assert value_of(there.get()) == "token-1"  # it knows of no refusal
    assert value_of(there.newest()) == "token-2"
    assert value_of(there.get()) == value_of(here.newest()) == "token-2"
    assert len(server.asked) == 2


def test_a_late_report_of_an_older_token_does_not_bring_a_refused_one_back(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    tokens, other = (Tokens(a_client(server.url), store, keys, clock) for _ in range(2))
    first = tokens.get()
    assert first
    tokens.refused(first)
    second = tokens.get()
    assert second
    clock.pass_s(2)
    tokens.refused(second)

    other.refused(first)

    assert value_of(other.get()) == "token-3"


def test_each_renewal_that_did_not_help_doubles_the_time_to_the_next_one_up_to_five_minutes(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    trusted = []
    for _ in range(10):  # one call is refused with each of the tokens
        token, age_s = tokens.get(), 0
        while not tokens.refused(token):
            clock.pass_s(1)
            age_s += 1
        trusted.append(age_s)

    assert trusted == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]


@pytest.mark.parametrize(("good", "after_s", "renewed"), [
    (True, 61, True), (True, 59, False), (False, 61, False)
])  # fmt: skip
def test_renewals_are_forgotten_when_a_token_worked_for_a_minute_without_a_refusal(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    clock: HeldClock,
    *,
    good: bool,
    after_s: float,
    renewed: bool,
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    for _ in range(9):  # from now on a token is trusted for 256 s
        clock.pass_s(400)
        tokens.refused(tokens.get())
        token = tokens.get()
    if good:
        tokens.worked(token)

    clock.pass_s(after_s)

    assert tokens.refused(token) is renewed


@pytest.mark.parametrize("came_back", [True, False])
def test_many_good_answers_in_a_row_take_a_renewal_back_that_helped(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock, *, came_back: bool
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    assert tokens.refused(tokens.get())
    token = tokens.get()
    if came_back:
        tokens.worked(token)

    for _ in range(63):
        tokens.worked(token, again=False)
    assert not tokens.refused(token)
    for _ in range(64):
        tokens.worked(token, again=False)

    assert tokens.refused(token) is came_back


def test_renewals_stay_few_whatever_single_good_answers_come_between(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    clock: HeldClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    tokens.get()

    for _ in range(100):  # one call in so many is refused, whatever its token is
        clock.pass_s(0.1)
        tokens.refused(tokens.get())
        tokens.worked(tokens.get())

    assert len(server.asked) <= 6  # the first one; and after 0, 1, 2, 4 s of trust
    assert "another system" not in caplog.text


def test_a_token_that_replaces_a_refused_one_is_trusted_for_a_second(
    store: Store, keys: ClientKeys, server: TokenServer, clock: HeldClock
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    assert tokens.refused(tokens.get())
    second = tokens.get()

    assert not tokens.refused(second)
    clock.pass_s(1.1)
    assert tokens.refused(second)


@pytest.mark.parametrize("ended", [1, 2, 3])
def test_tokens_that_end_long_before_their_time_one_after_the_other_are_spoken_of(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    clock: HeldClock,
    caplog: pytest.LogCaptureFixture,
    ended: int,
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    for _ in range(ended):
        token = tokens.get()
        clock.pass_s(90)
        assert tokens.refused(token)
        tokens.worked(tokens.get())

    assert ("another system may use the same credentials" in caplog.text) is (ended == 3)
    assert ("the last one 90 s after it was issued for 3600 s" in caplog.text) is (ended == 3)


def test_a_token_that_works_after_it_was_refused_has_not_ended(
    store: Store,
    keys: ClientKeys,
    server: TokenServer,
    clock: HeldClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokens = Tokens(a_client(server.url), store, keys, clock)
    for _ in range(5):
        clock.pass_s(90)
        assert tokens.refused(tokens.get())
        token = tokens.get()
        tokens.worked(token)
        assert not tokens.refused(token)  # it is trusted yet
        tokens.worked(token)

    assert "another system" not in caplog.text
