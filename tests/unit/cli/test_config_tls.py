"""`headgate config check` says what is wrong with a certificate, and what others could read."""

from __future__ import annotations

import json
import os
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.sandbox.process import SandboxProcess
from tests.support.tls import make_certificate, server_context
from tests.support.tls_listener import OLD_TLS, WRONG, listening, wrong_listener
from tests.support.world import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.world import World

each_fault = pytest.mark.parametrize("fault", [fault for fault in WRONG if fault != OLD_TLS])
each_version = pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
#: What a user reads beside OpenSSL's words.
REMEDIES = {
    "self-signed": "name its authority in ",
    "other name": "correct the host of the URL, or the certificate",
    "expired": "renew it on the server",
    "not yet valid": "correct the clock",
}


@pytest.fixture(scope="module")
def provider() -> Iterator[SandboxProcess]:
    with SandboxProcess({"clients": {"demo": SECRET}}) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def check(world: World) -> tuple[int, dict[str, Any]]:
    """Exit code and answer; no secret is in it, and what people read has one line a problem."""
    text = world.run("config", "check").output
    result = world.run("config", "check", "--json")
    answer = json.loads(result.stdout)
    assert text.count("  problem  ") == len(answer["problems"])
    assert text.count("  warning  ") == len(answer["warnings"])
    assert "canary" not in text + result.output
    return result.exit_code, answer


def configure(world: World, store: str, more: str = "") -> None:
    world.config.write_text(f"[store]\n{store}\n{more}\n")


def redis_url(port: int, authority: Path | None, more: str = "") -> str:
    trust = f"ssl_ca_certs={authority}" if authority else "ssl_cert_reqs=required"
    return f"rediss://:canary-password@127.0.0.1:{port}/0?{trust}{more}"


# Store and broker


@each_fault
def test_a_wrong_certificate_of_the_store_is_one_sentence(
    world: World, tmp_path: Path, fault: str
) -> None:
    with wrong_listener(tmp_path, fault) as (listener, authority):
        configure(world, f'url = "{redis_url(listener.port, authority)}"')
        code, answer = check(world)

    assert code == 1
    (problem,) = answer["problems"]
    assert problem.startswith("there is no connection to the store: its certificate is not")
    assert WRONG[fault] in problem
    assert REMEDIES[fault] in problem


def test_a_store_of_an_old_tls_is_one_sentence(world: World, tmp_path: Path) -> None:
    with wrong_listener(tmp_path, OLD_TLS) as (listener, authority):
        configure(world, f'url = "{redis_url(listener.port, authority)}"')
        code, answer = check(world)

    assert code == 1
    (problem,) = answer["problems"]
    assert problem.startswith("there is no connection to the store: TLS failed: ")
    assert WRONG[OLD_TLS] in problem


@each_fault
def test_a_wrong_certificate_of_the_broker_is_one_sentence(
    world: World, tmp_path: Path, fault: str
) -> None:
    with wrong_listener(tmp_path, fault) as (listener, authority):
        broker = f'broker_url = "{redis_url(listener.port, authority)}"'
        configure(world, f'url = "{world.store_url}"\n{broker}')
        code, answer = check(world)
        doctor = world.run("doctor")

    assert code == 1
    assert answer["broker"] == {"reachable": False}
    (problem,) = answer["problems"]
    assert problem.startswith("there is no connection to the broker: its certificate is not")
    assert WRONG[fault] in problem
    assert doctor.exit_code == 1
    assert problem in doctor.stdout


@each_version
@pytest.mark.parametrize("name", ["store", "broker"])
def test_a_server_that_demands_a_certificate_is_told_and_satisfied(
    world: World, tmp_path: Path, name: str, newest: ssl.TLSVersion
) -> None:
    server, ours = make_certificate(tmp_path / "s.pem"), make_certificate(tmp_path / "c.pem")
    context = server_context(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ours)
    context.maximum_version = newest
    store_port = int(world.store_url.rpartition(":")[2].partition("/")[0])

    def configured(more: str) -> tuple[int, dict[str, Any]]:
        url = redis_url(listener.port, server, more).replace(":canary-password@", "")
        if name == "store":
            configure(world, f'url = "{url}"')
        else:
            configure(world, f'url = "{world.store_url}"\nbroker_url = "{url}"')
        return check(world)

    with listening(context, store_port) as listener:
        code, answer = configured("")
        assert code == 1
        (problem,) = answer["problems"]
        assert f"no connection to the {name}" in problem
        assert "demand" in problem
        assert "set ssl_certfile" in problem

        code, answer = configured(f"&ssl_certfile={ours}")
        assert (code, answer["problems"]) == (0, [])

        stranger = make_certificate(tmp_path / "stranger.pem")
        code, answer = configured(f"&ssl_certfile={stranger}")
        assert code == 1
        assert "does not accept the client certificate" in answer["problems"][0]


@pytest.mark.parametrize("name", ["url", "broker_url"])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs /nowhere/ca.pem cannot be used (no such"),
        ("ssl_certfile=/nowhere/c.pem", "ssl_certfile /nowhere/c.pem cannot be used (no such"),
        ("ssl_ca_certs=/dev/null", "ssl_ca_certs /dev/null cannot be used ("),
    ],
)
@pytest.mark.parametrize("command", [["config", "check"], ["doctor"], ["worker"], ["flower"]])
def test_a_file_that_cannot_be_used_is_one_sentence(
    world: World, name: str, option: str, words: str, command: list[str]
) -> None:
    own = f'url = "{world.store_url}"\n' if name == "broker_url" else ""
    configure(world, f'{own}{name} = "rediss://:canary@127.0.0.1:9/0?{option}"')

    result = world.run(*command)

    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output
    assert "canary" not in result.output


# Providers


@each_fault
@pytest.mark.parametrize("key", ["base_url", "token_url"])
def test_a_wrong_certificate_of_a_provider_is_one_sentence(
    world: World, provider: SandboxProcess, tmp_path: Path, fault: str, key: str
) -> None:
    with wrong_listener(tmp_path, fault) as (listener, authority):
        there = f"https://127.0.0.1:{listener.port}"
        ca = f'ca_file = "{authority}"' if authority else ""
        world.configure(provider.url, more=ca)
        text = world.config.read_text().replace(f'{key} = "{provider.url}', f'{key} = "{there}')
        world.config.write_text(text)
        code, answer = check(world)

    assert code == 1
    (problem,) = answer["problems"]
    assert problem.startswith(f"client acme: no connection to 127.0.0.1:{listener.port} (its cert")
    assert WRONG[fault] in problem
    assert REMEDIES[fault] in problem
    assert listener.received == b""


@each_version
@pytest.mark.parametrize("key", ["base_url", "token_url"])
def test_a_provider_that_demands_a_certificate_is_told(
    world: World, provider: SandboxProcess, tmp_path: Path, key: str, newest: ssl.TLSVersion
) -> None:
    server = make_certificate(tmp_path / "s.pem")
    context = server_context(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(server)
    context.maximum_version = newest
    with listening(context) as listener:
        world.configure(provider.url, more=f'ca_file = "{server}"')
        there = f"https://127.0.0.1:{listener.port}"
        text = world.config.read_text().replace(f'{key} = "{provider.url}', f'{key} = "{there}')
        world.config.write_text(text)
        code, answer = check(world)

    assert code == 1
    (problem,) = answer["problems"]
    assert "demand" in problem
    assert "set client_cert_file" in problem
    assert listener.received == b""


# Links that are not encrypted


def test_links_beyond_this_machine_that_are_not_encrypted_are_warnings(world: World) -> None:
    stores = 'url = "redis://:canary@192.0.2.1:9/0"\nbroker_url = "redis://127.0.0.1:9/1"'
    clients = (
        '[clients.a]\nbase_url = "http://192.0.2.2:9"\ntoken_url = "http://192.0.2.3:9/t"\n'
        'client_id = "a"\nclient_secret_env = "ACME_SECRET"\nconnect_timeout_s = 0.1\n'
        '[clients.b]\nbase_url = "http://127.0.0.1:9"\ntoken_url = "http://127.0.0.1:9/t"\n'
        'client_id = "a"\nclient_secret_env = "ACME_SECRET"\n'
        '[clients.c]\nbase_url = "http://192.0.2.4:9"\nconnect_timeout_s = 0.1\n'
    )
    configure(world, stores.replace("192.0.2.1:9/0", "192.0.2.1:9/0?socket_connect_timeout=0.1"))
    world.config.write_text(world.config.read_text() + clients)

    _, answer = check(world)

    warnings = answer["warnings"]
    assert [warning.partition(" is not")[0] for warning in warnings] == [
        "store.url: the connection to 192.0.2.1",
        "client a: base_url",
        "client a: token_url",
    ]
    assert "use rediss://" in warnings[0]
    assert "its access token; use https://" in warnings[1]
    assert "its secret; use https://" in warnings[2]


def test_warnings_change_no_exit_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.views.links.is_loopback", lambda _: False)
    configure(world, f'url = "{world.store_url}"')

    code, answer = check(world)
    doctor = world.run("doctor")

    assert (code, len(answer["warnings"])) == (0, 1)
    assert doctor.exit_code == 0
    assert answer["warnings"][0] in doctor.stdout
