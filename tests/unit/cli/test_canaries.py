"""Secrets, tokens and contents never show, whatever is asked and whatever goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestration.sandbox.process import SandboxProcess
from tests.support.world import FAILED, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.world import World

CSV = "id,name,phone\nc1,canary-name,+44 7700 900123\nc2,canary-name\nc3,canary-name,canary-phone\n"
COMMANDS = [
    ("jobs",), ("status",), ("doctor",), ("config", "check"), ("watch", "j1"),
]  # fmt: skip


@pytest.fixture(scope="module")
def provider() -> Iterator[SandboxProcess]:
    with SandboxProcess({"clients": {"demo": SECRET}}) as sandbox:
        yield sandbox


@pytest.mark.parametrize("form", ['auth = "bearer"', 'auth = "api_key"\napi_key_header = "X-Key"'])
def test_no_command_shows_an_api_key_a_token_or_the_password_of_a_proxy(
    world: World, provider: SandboxProcess, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("ACME_SECRET", "canary-key")
    monkeypatch.setenv("ACME_PROXY", "canary-password")
    way = 'proxy = "http://127.0.0.1:9"\nproxy_username = "corp"\nproxy_password_env = "ACME_PROXY"'
    url = f'base_url = "{provider.url}"\nclient_secret_env = "ACME_SECRET"'
    world.config.write_text(
        f'[store]\nurl = "{world.store_url}"\nnamespace = "{world.namespace}"\n'
        f"[clients.acme]\n{url}\n{way}\n{form}\n"
        f'[[clients.acme.limits]]\nname = "app"\ncount = 10\n'
    )
    commands = COMMANDS[:-1]  # no job is there

    results = [world.run(*it, *more) for it in commands for more in ((), ("--json",))]

    said = "".join(it.output for it in results)
    assert "through the proxy 127.0.0.1:9 (connection refused)" in said
    assert "canary" not in said
    assert not any(it.exception and not isinstance(it.exception, SystemExit) for it in results)


def test_no_command_shows_a_secret_a_token_or_a_cell(
    world: World, provider: SandboxProcess, tmp_path: Path
) -> None:
    world.configure(provider.url)
    token = world.client.tokens().get()
    assert token is not None
    world.submit(2)
    world.work(FAILED)
    (tmp_path / "contacts.csv").write_text(CSV)
    options = ("--client", "acme", "--list", "l", "--id-column", "id", "--phone-column", "phone")
    said = world.run("submit", "contacts", str(tmp_path / "contacts.csv"), *options).output
    # Damage, so that there is something to say about each row.
    world.client.store.rename(world.tx(world.client.key("j1", "j1-0")), world.tx("elsewhere"))
    world.client.store.hset(world.tx(world.client.key("j1", "j1-1")), "s", "x")

    said += "".join(world.run(*it).output for it in COMMANDS)
    said += "".join(world.run(*it, "--json").output for it in COMMANDS)

    assert "FAIL" in said
    assert "2 rejected" in said
    assert "canary" not in said
    assert "900123" not in said
    assert token.value.get_secret_value() not in said
