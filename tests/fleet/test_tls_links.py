"""Store and broker behind TLS: an authority of one's own, and certificates of both sides."""

from __future__ import annotations

import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests
from urllib3.util.wait import wait_for_read

from tests.conftest import free_port
from tests.support.fleet import ROOT, Fleet, calls, until
from tests.support.tls import make_certificate, server_context
from tests.support.tls_listener import listening
from workers.store.connection import connect

if TYPE_CHECKING:
    from pathlib import Path


def demanding(server: Path, trusted: Path) -> ssl.SSLContext:
    """A server that speaks only with clients whose certificate it trusts."""
    context = server_context(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(trusted)
    return context


@pytest.mark.parametrize("spelling", ["required", "CERT_REQUIRED"])
def test_a_fleet_works_with_an_authority_and_certificates_of_its_own(
    tmp_path: Path, spelling: str
) -> None:
    server, ours = make_certificate(tmp_path / "s.pem"), make_certificate(tmp_path / "c.pem")
    options = f"ssl_cert_reqs={spelling}&ssl_ca_certs={server}&ssl_certfile={ours}"
    context = demanding(server, ours)
    with (
        Fleet(broker=True) as fleet,
        listening(context, fleet.store_port) as store,
        listening(context, fleet.broker_port) as broker,
    ):
        fleet.environment |= {
            "HEADGATE_STORE__URL": f"rediss://127.0.0.1:{store.port}/0?{options}",
            "HEADGATE_STORE__BROKER_URL": f"rediss://127.0.0.1:{broker.port}/1?{options}",
            "HEADGATE_FLOWER__PASSWORD_ENV": "FLOWERS",
            "FLOWERS": "flowers-in-the-garden",
        }
        fleet.submit(calls(20))
        fleet.start_worker("w1")

        assert fleet.wait()["succeeded"] == 20
        assert len(fleet.effects()) == 20
        assert b"FCALL" in store.received
        assert b"PUSH" in broker.received
        for command in (
            ["celery", "-A", "workers.app", "inspect", "ping", "--timeout=10"],
            ["orchestration.cli", "doctor"],
        ):
            it = subprocess.run(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=fleet.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert it.returncode == 0, it.stdout + it.stderr
        _look_at_flower(fleet.environment)
        assert "insecure" not in fleet.log("w1")


def _look_at_flower(environment: dict[str, str]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "orchestration.cli", "flower", f"--port={port}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: "w1@" in _page(f"{url}/api/workers?refresh=1"), timeout_s=60, what="w1")
            assert "calls" in _page(f"{url}/broker")
        finally:
            process.kill()


def _page(url: str) -> str:
    try:
        answer = requests.get(url, auth=("headgate", "flowers-in-the-garden"), timeout=20)
    except requests.ConnectionError:
        return ""
    return answer.text if answer.ok else ""


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE"])
def test_on_loopback_a_url_may_turn_verification_off(tmp_path: Path, option: str) -> None:
    certificate = make_certificate(tmp_path / "s.pem", "10.0.0.1")
    with Fleet() as fleet, listening(server_context(certificate), fleet.store_port) as listener:
        url = f"rediss://127.0.0.1:{listener.port}/0?{option}"
        fleet.submit(calls(3))
        both = {"HEADGATE_STORE__URL": url, "HEADGATE_STORE__BROKER_URL": url}
        fleet.start_worker("w1", env=both)

        assert fleet.wait()["succeeded"] == 3


def test_a_name_that_is_not_checked_still_needs_an_authority(
    tmp_path: Path, store_url: str
) -> None:
    certificate = make_certificate(tmp_path / "s.pem", "10.0.0.1")
    port = int(store_url.rpartition(":")[2].partition("/")[0])
    with listening(server_context(certificate), port) as listener:
        url = f"rediss://127.0.0.1:{listener.port}/0?ssl_check_hostname=false"

        assert connect(f"{url}&ssl_ca_certs={certificate}").ping()
        with pytest.raises(Exception, match="self-signed"):
            connect(url).ping()


def test_a_new_connection_without_a_login_has_nothing_left_to_read(
    tmp_path: Path, store_url: str
) -> None:
    """With TLS 1.3 a server sends session tickets, which redis-py takes for a stray answer."""
    certificate = make_certificate(tmp_path / "s.pem")
    port = int(store_url.rpartition(":")[2].partition("/")[0])
    with listening(server_context(certificate), port) as listener:
        url = f"rediss://127.0.0.1:{listener.port}/0?ssl_ca_certs={certificate}"
        connection = connect(url).connection_pool.make_connection()

        connection.connect()

        assert not wait_for_read(connection._sock, 0.5)
        connection.disconnect()
