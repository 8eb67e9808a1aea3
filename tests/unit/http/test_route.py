"""The way to a provider: through a real proxy, to a server that demands a certificate of ours."""

from __future__ import annotations

import itertools
import json
import os
import ssl
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from tests.support.proxy import a_proxy
from tests.support.tls import make_certificate, server_context
from workers import handshake
from workers.answer.outcome import Next, Outcome, read
from workers.auth.token_endpoint import TokenEndpoint
from workers.errors import ConfigError
from workers.http import route
from workers.http.connection import Caller, ConnectFailed, Request
from workers.settings.access import Secrets
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.answer.outcome import Answer


class Server(ThreadingHTTPServer):
    """Answers any POST with a token, over TLS when it has a context."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []
        self.heads: list[str] = []
        self.shakes = 0
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        self.context = context
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
            self.shakes += 1
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.server.heads.append(str(self.headers))
        body = json.dumps({"access_token": "t", "expires_in": 60}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- as the library
        del format, args


@contextmanager
def a_server(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    with closing(Server(context)) as server:
        yield server


def a_client(url: str, **settings: Any) -> ClientSettings:
    return ClientSettings(name="acme", base_url=url, connect_timeout_s=5.0, **settings)


def call(caller: Caller) -> Answer:
    with caller.connection() as connection:
        return connection.send(Request("POST", "/things", body=b"{}"))


def ask(client: ClientSettings, url: str) -> tuple[str, float]:
    it = client.model_copy(update={"auth": "client_credentials", "client_id": "me"})
    return TokenEndpoint(it, f"{url}/token").ask(Secrets(SecretStr("s")))


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate that the server shows, which is the authority too, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """A certificate of the client and its key."""
    return make_certificate(tmp_path / "client.pem")


def demanding(ours: Path, trusted: Path, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that speaks only with clients whose certificate it trusts."""
    context = server_context(ours)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(trusted)
    context.maximum_version = newest
    return context


VERSIONS = pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


# Proxies


@VERSIONS
def test_calls_and_tokens_go_through_the_tunnel_with_certificates_of_both_sides(
    monkeypatch: pytest.MonkeyPatch, ours: Path, shown: Path, newest: ssl.TLSVersion
) -> None:
    monkeypatch.setenv("ACME_PROXY", "pass wörd")
    login = {"proxy_username": "corp", "proxy_password_env": "ACME_PROXY"}
    certificates = {"ca_file": ours, "client_cert_file": shown}
    with a_server(demanding(ours, shown, newest)) as server, a_proxy("corp:pass wörd") as proxy:
        client = a_client(server.url, proxy=proxy.url, **login, **certificates)
        caller = Caller(client, 1)

        with caller.connection() as connection:
            before = list(proxy.asked), list(server.paths), connection.is_silent()
        answers = [call(caller), call(caller)]
        token = ask(client, server.url)

    place = server.url.removeprefix("https://")
    assert before == ([("CONNECT", place)], [], True)  # open before anything is admitted
    assert [it.status for it in answers] == [200, 200]
    assert token == ("t", 60.0)
    assert proxy.asked == [("CONNECT", place)] * 2
    assert server.paths == ["/things", "/things", "/token"]
    assert "Proxy-Authorization" not in "".join(server.heads)


def test_plain_calls_are_passed_on_by_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_PROXY", "canary")
    login = {"proxy_username": "corp", "proxy_password_env": "ACME_PROXY"}
    with a_server() as server, a_proxy("corp:canary") as proxy:
        answer = call(Caller(a_client(server.url, proxy=proxy.url, **login), 1))

    assert answer.status == 200
    assert proxy.asked == [("POST", f"{server.url}/things")]


def test_a_changed_password_of_the_proxy_is_used_by_the_next_connection(
    ours: Path, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    login = {"proxy_username": "corp", "proxy_password_file": file, "ca_file": ours}
    with a_server(server_context(ours)) as server, a_proxy("corp:new") as proxy:
        file.write_text("canary-old\n")
        caller = Caller(a_client(server.url, proxy=proxy.url, **login), 1)
        with pytest.raises(ConnectFailed) as refused:
            call(caller)
        file.write_text("new\n")

        answer = call(caller)
        file.unlink()
        caller.close()
        with pytest.raises(ConfigError, match="proxy_password_file") as missing:
            call(caller)

    reason = "the proxy answered 407; check proxy_username and its password"
    assert refused.value.reason == reason
    assert answer.status == 200
    assert "canary" not in str(missing.value)
    assert "canary" not in str(refused.value) + repr(caller.client) + repr(vars(caller.route))


def test_a_proxy_that_refuses_a_plain_call_has_sent_nothing_and_ends_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACME_PROXY", "wrong")
    login = {"proxy_username": "corp", "proxy_password_env": "ACME_PROXY"}
    with a_server() as server, a_proxy("corp:right") as proxy:
        reading = read(call(Caller(a_client(server.url, proxy=proxy.url, **login), 1)))

    assert (reading.outcome, reading.next) == (Outcome.NOT_EXECUTED, Next.RETRY)
    assert "the proxy answered 407; check proxy_username" in reading.reason
    assert server.paths == []


def test_a_password_of_the_proxy_that_is_not_there_is_a_wrong_configuration() -> None:
    login = {"proxy_username": "corp", "proxy_password_env": "ACME_PROXY_UNSET"}

    with pytest.raises(ConfigError, match="ACME_PROXY_UNSET is not set; put the proxy password"):
        Caller(a_client("http://127.0.0.1:1", proxy="http://127.0.0.1:1", **login), 1)


def test_the_clients_own_proxy_stands_above_the_environment_and_none_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with a_server() as server, a_proxy() as own, a_proxy() as other:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        call(Caller(a_client(server.url, proxy=own.url), 1))
        seen = len(own.asked), len(other.asked)
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("http_proxy", other.url)

        call(Caller(a_client(server.url, proxy="none"), 1))
        without = len(own.asked), len(other.asked)
        call(Caller(a_client(server.url), 1))

    assert (seen, without) == ((1, 0), (1, 0))
    assert len(other.asked) == 1


def test_a_failure_to_connect_says_for_how_long_no_new_connection_came_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = itertools.count(1)
    monkeypatch.setattr(route, "now_ns", lambda: next(moments) * 10**9)
    with a_server() as server:
        caller = Caller(a_client("http://127.0.0.1:1"), 1)

        def failing_s() -> float:
            with pytest.raises(ConnectFailed) as failed:
                caller.reach()
            return failed.value.failing_s

        assert [failing_s() for _ in range(3)] == [0, 1, 2]
        assert caller.route.fails

        caller.route._pool.port = int(server.url.rpartition(":")[2])
        caller.reach()
        assert not caller.route.fails
        assert call(caller).status == 200  # over the connection that is kept
        caller.close()
        caller.route._pool.port = 1
        assert failing_s() == 0


# Certificates of the client


@VERSIONS
@pytest.mark.parametrize("which", ["none", "unknown"])
def test_a_certificate_that_is_not_accepted_is_no_connection_or_nothing_sent(
    ours: Path, shown: Path, tmp_path: Path, which: str, newest: ssl.TLSVersion
) -> None:
    stranger = make_certificate(tmp_path / "stranger.pem")
    settings = {} if which == "none" else {"client_cert_file": stranger}
    with a_server(demanding(ours, shown, newest)) as server:
        caller = Caller(a_client(server.url, ca_file=ours, **settings), 1)

        if which == "unknown":
            with pytest.raises(ConnectFailed) as caught:
                call(caller)
            text = str(caught.value)
        else:  # nothing is waited for: the refusal may come in place of an answer
            try:
                reading = read(call(caller))
                assert (reading.outcome, reading.next) == (Outcome.NOT_EXECUTED, Next.RETRY)
                text = reading.reason
            except ConnectFailed as error:
                text = str(error)

    assert server.paths == []
    assert "127.0.0.1" in text or "nothing was sent" in text


def test_a_refusal_of_the_certificate_in_place_of_an_answer_is_nothing_sent(
    ours: Path, shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.http.route.await_refusal", lambda _: None)
    monkeypatch.setattr("workers.http.connection.is_silent", lambda _: True)
    stranger = make_certificate(tmp_path / "stranger.pem")
    with a_server(demanding(ours, shown, ssl.TLSVersion.TLSv1_3)) as server:
        answer = call(Caller(a_client(server.url, ca_file=ours, client_cert_file=stranger), 1))

    assert not answer.sent
    assert "does not accept the client certificate" in str(answer.error)
    assert "check client_cert_file" in str(answer.error)
    assert server.paths == []


def test_a_server_that_says_nothing_to_the_certificate_is_not_waited_for_long(
    ours: Path, shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = server_context(ours)
    context.num_tickets = 0
    waited: list[float] = []
    monkeypatch.setattr(handshake, "wait_for_read", lambda _, s: waited.append(s))
    with a_server(context) as server:
        answer = call(Caller(a_client(server.url, ca_file=ours, client_cert_file=shown), 1))

    assert answer.status == 200
    assert waited == [handshake.ACCEPTED_S]


def test_a_renewed_certificate_is_shown_by_the_next_connection(
    ours: Path, shown: Path, tmp_path: Path
) -> None:
    used = tmp_path / "used.pem"
    make_certificate(used)
    with a_server(demanding(ours, shown, ssl.TLSVersion.TLSv1_3)) as server:
        caller = Caller(a_client(server.url, ca_file=ours, client_cert_file=used), 1)
        with pytest.raises(ConnectFailed):
            call(caller)

        os.replace(shown, used)  # noqa: PTH105 -- as whoever renews it does

        assert call(caller).status == 200


def test_a_certificate_that_cannot_be_used_is_a_wrong_configuration(
    ours: Path, shown: Path, tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(shown.read_bytes(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"canary"),
    )
    (tmp_path / "sealed.pem").write_bytes(sealed)

    def refusal(**settings: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            Caller(a_client("https://127.0.0.1:1", **settings), 1)
        return str(caught.value)

    assert "none.pem cannot be read" in refusal(client_cert_file=tmp_path / "none.pem")
    encrypted = refusal(client_cert_file=shown, client_key_file=tmp_path / "sealed.pem")
    assert "the key is encrypted" in encrypted
    assert "key values mismatch" in refusal(client_cert_file=shown, client_key_file=ours)
