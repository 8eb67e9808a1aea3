"""A listener with a wrong certificate never sees a password, a token, a secret or a body."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import requests
from kombu import Connection
from pydantic import SecretStr

from tests.conftest import free_port
from tests.support.fleet import ROOT, Fleet, calls, until
from tests.support.tls_listener import WRONG, Listener, wrong_listener
from workers.auth.token_endpoint import NoToken, TokenEndpoint
from workers.broker import transport
from workers.errors import StoreAway
from workers.http.connection import Caller
from workers.http.request import Request
from workers.http.route import ConnectFailed
from workers.http.transfer import File, Transfers
from workers.settings.access import Secrets
from workers.settings.client import ClientSettings
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.world import World

PASSWORD = "canary-flower-5b1e"


class Wrong:
    """A listener whose certificate is wrong, and how it is reached."""

    def __init__(self, listener: Listener, authority: Path | None, fault: str) -> None:
        self.listener, self.words, self.authority = listener, WRONG[fault], authority

    @property
    def redis_url(self) -> str:
        """As a store or broker with a password."""
        trust = f"?ssl_ca_certs={self.authority}" if self.authority else ""
        return f"rediss://headgate:canary-password@127.0.0.1:{self.listener.port}/0{trust}"

    @property
    def https_url(self) -> str:
        """As a provider."""
        return f"https://127.0.0.1:{self.listener.port}"

    @property
    def client(self) -> ClientSettings:
        """A client of that provider."""
        return ClientSettings(
            name="acme",
            base_url=self.https_url,
            ca_file=self.authority,
            proxy="none",
            connect_timeout_s=5.0,
            auth="client_credentials",
            token_url=f"{self.https_url}/token",
            client_id="me",
            client_secret_env="ACME_SECRET",
        )

    def require_silence(self) -> None:
        """Make sure that somebody came, said nothing, and took the certificate for wrong."""
        listener = self.listener
        until(lambda: listener.received or listener.failed == listener.tries, what="refusals")
        assert listener.received == b""
        assert listener.failed > 0


@pytest.fixture
def wrong(tmp_path: Path, fault: str) -> Iterator[Wrong]:
    with wrong_listener(tmp_path, fault) as (listener, authority):
        yield Wrong(listener, authority, fault)


each_fault = pytest.mark.parametrize("fault", WRONG)
#: Where processes are started.
some_faults = pytest.mark.parametrize("fault", ["self-signed", "other name", "expired"])
one_fault = pytest.mark.parametrize("fault", ["self-signed"])


# The store


@each_fault
def test_the_stores_client_tells_it_nothing(wrong: Wrong) -> None:
    store = connect(wrong.redis_url)

    for send in (store.ping, lambda: store.ask("PING"), store.pipeline().ping().execute):
        with pytest.raises(StoreAway) as away:
            send()
        assert wrong.words in str(away.value)
        assert "canary" not in str(away.value)

    wrong.require_silence()


@one_fault
@pytest.mark.parametrize(
    "command", [["status"], ["jobs"], ["doctor"], ["config", "check"], ["worker"], ["flower"]]
)
def test_no_command_tells_it_anything_where_it_is_the_store(
    world: World, wrong: Wrong, command: list[str]
) -> None:
    text = f'[store]\nurl = "{wrong.redis_url}"\n[clients.acme]\nbase_url = "http://127.0.0.1:9"\n'
    world.config.write_text(text)

    result = world.run(*command)

    assert result.exit_code == 1
    assert wrong.words in result.output
    assert "canary" not in result.output
    wrong.require_silence()


# The broker


@some_faults
def test_a_worker_with_work_tells_it_nothing_where_it_is_the_broker(wrong: Wrong) -> None:
    with Fleet() as fleet:
        fleet.submit(calls(3))
        fleet.start_worker("w1", env={"HEADGATE_STORE__BROKER_URL": wrong.redis_url})
        # The consumer connects, and the dispatcher publishes.
        _await_in_log("Trying again", fleet, wrong)
        _await_in_log("the bells are requeued", fleet, wrong)
        wrong.require_silence()
        log = fleet.log("w1")

        assert "certificate" in log
        assert "canary" not in log
        assert fleet.effects() == []


def _await_in_log(words: str, fleet: Fleet, wrong: Wrong) -> None:
    until(lambda: wrong.listener.received or words in fleet.log("w1"), 60, words)


@one_fault
@pytest.mark.parametrize(
    "command",
    [
        ["celery", "-A", "workers.app", "inspect", "ping"],
        ["celery", "-A", "workers.app", "status"],
        ["orchestration.cli", "doctor"],
        ["orchestration.cli", "config", "check"],
    ],
)
@pytest.mark.usefixtures("world")  # for its configuration
def test_no_tool_tells_it_anything_where_it_is_the_broker(wrong: Wrong, command: list[str]) -> None:
    environment = os.environ | {"HEADGATE_STORE__BROKER_URL": wrong.redis_url}

    with _process(command, environment) as process:
        until(
            lambda: wrong.listener.tries or process.poll() is not None, timeout_s=60, what="a try"
        )
        until(
            lambda: wrong.listener.received or process.poll() is not None,
            timeout_s=60,
            what="its end",
        )

    wrong.require_silence()


@one_fault
@pytest.mark.usefixtures("world")
def test_a_broker_named_on_the_command_line_is_verified_too(wrong: Wrong) -> None:
    url = wrong.redis_url.partition("?")[0] + "?ssl_cert_reqs=none"
    command = ["celery", "-A", "workers.app", "-b", url, "inspect", "ping"]

    with _process(command, dict(os.environ)) as process:
        until(
            lambda: wrong.listener.received or process.poll() is not None,
            timeout_s=60,
            what="its end",
        )

    wrong.require_silence()


@some_faults
def test_a_broker_of_amqps_is_verified_too(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    if wrong.authority:
        monkeypatch.setenv("SSL_CERT_FILE", str(wrong.authority))
    transport.install()
    url = f"amqps://headgate:canary-password@127.0.0.1:{wrong.listener.port}//"

    with Connection(url) as connection, pytest.raises(ssl.SSLCertVerificationError):
        connection.connect()

    wrong.require_silence()


@some_faults
@pytest.mark.usefixtures("world")
def test_flower_tells_it_nothing_where_it_is_the_broker(wrong: Wrong) -> None:
    port = free_port()
    environment = os.environ | {
        "HEADGATE_STORE__BROKER_URL": wrong.redis_url,
    }
    # `headgate flower` looks at its broker first, and does not start.
    with _process(["celery", "-A", "workers.app", "flower", f"--port={port}"], environment):
        until(
            lambda: wrong.listener.received or wrong.listener.tries,
            timeout_s=60,
            what="a try of its own",
        )
        tries = wrong.listener.tries
        until(
            lambda: _status(f"http://127.0.0.1:{port}/broker"),
            timeout_s=60,
            what="the page of the broker",
        )
        assert wrong.listener.received or wrong.listener.tries > tries

        wrong.require_silence()


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=quiet, stderr=quiet
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _status(url: str) -> int:
    try:
        return requests.get(url, auth=("headgate", PASSWORD), timeout=20).status_code
    except requests.ConnectionError:
        return 0


# The provider


@each_fault
def test_a_call_tells_it_nothing(wrong: Wrong) -> None:
    request = Request("POST", "/x", {"Authorization": "Bearer canary"}, b"canary")

    with (
        pytest.raises(ConnectFailed, match=wrong.words),
        Caller(wrong.client, 1).connection() as connection,
    ):
        connection.send(request)

    wrong.require_silence()


@each_fault
def test_a_request_for_a_token_tells_it_nothing(wrong: Wrong) -> None:
    with pytest.raises(NoToken, match=wrong.words):
        TokenEndpoint(wrong.client, f"{wrong.https_url}/token").ask(Secrets(SecretStr("canary")))

    wrong.require_silence()


@each_fault
def test_an_upload_to_a_signed_url_tells_it_nothing(wrong: Wrong, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"canary")
    file = File(path, 6, hashlib.md5(b"canary", usedforsecurity=False).hexdigest())

    with pytest.raises(ConnectFailed, match=wrong.words) as failed:
        Transfers(wrong.client, 1).put(
            f"{wrong.https_url}/x?signature=canary", {}, file, lambda: True
        )

    assert "canary" not in str(failed.value)
    wrong.require_silence()
