from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestration.sandbox.process import SandboxProcess
from tests.cli.conftest import SECRET
from tests.conftest import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import World


@pytest.fixture(scope="module")
def provider() -> Iterator[SandboxProcess]:
    with SandboxProcess({"clients": {"demo": SECRET}}) as sandbox:
        yield sandbox


def test_a_good_configuration_is_confirmed_with_what_follows_from_its_limits(
    world: World, provider: SandboxProcess
) -> None:
    world.configure(provider.url, "count = 300\nwindow_s = 10\nshape = 'sliding_window'")

    result = world.run("config", "check", "--json")

    assert result.exit_code == 0
    it = json.loads(result.stdout)
    assert it["problems"] == []
    assert it["store"]["appendfsync"] == "everysec"
    acme = it["clients"]["acme"]
    assert acme["base_url_reachable"] is acme["secret_present"] is acme["token_obtained"] is True
    (limit,) = acme["limits"]
    assert limit["rate_per_s"] == pytest.approx(29.4, abs=0.1)
    assert limit["burst"] == 3
    assert limit["worst_case"] <= 300
    text = world.run("config", "check")
    assert text.exit_code == 0
    assert "token obtained" in text.stdout
    assert f"at most {limit['worst_case']} in any 10 s" in text.stdout


def test_a_provider_that_is_down_is_one_sentence_and_exit_1(world: World) -> None:
    result = world.run("config", "check")

    assert result.exit_code == 1
    assert result.stdout.count("connection refused") == 1
    assert "secret present" in result.stdout


def test_a_wrong_secret_is_one_sentence_and_exit_2(
    world: World, provider: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(provider.url)
    monkeypatch.setenv("ACME_SECRET", "canary-wrong-secret")

    result = world.run("config", "check")

    assert result.exit_code == 2
    assert "refuses the client id or secret" in result.stdout
    assert "token not obtained" in result.stdout
    assert "canary" not in result.output


def test_a_missing_secret_is_told_beside_a_provider_that_is_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACME_SECRET")

    result = world.run("config", "check", "--json")

    assert result.exit_code == 2
    it = json.loads(result.stdout)
    assert it["clients"]["acme"]["secret_present"] is False
    assert len(it["problems"]) == 2


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("count = 'many'", "clients.acme.limits.0.count"),
        ("count = 10\nshape = 'leaky'", "clients.acme.limits.0.shape"),
        ("count = 10\ncounts = 1", "clients.acme.limits.0: unknown key 'counts'"),
    ],
)
@pytest.mark.parametrize("command", [("config", "check"), ("status",), ("jobs",), ("doctor",)])
def test_a_wrong_value_is_one_sentence_with_its_place_and_exit_2(
    world: World, limits: str, said: str, command: tuple[str, ...]
) -> None:
    world.config.write_text(
        f'[clients.acme]\nbase_url = "http://h"\n[[clients.acme.limits]]\nname = "app"\n{limits}\n'
    )

    result = world.run(*command)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("config", "check"), ("worker",), ("status",)])
def test_a_limit_that_cannot_be_kept_is_named_and_exit_2(
    world: World, command: tuple[str, ...]
) -> None:
    world.config.write_text(
        '[clients.acme]\nbase_url = "http://h"\n'
        '[[clients.acme.limits]]\nname = "app"\ncount = 5\nrate = 1000.0\n'
    )

    result = world.run(*command)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "clients.acme: limit app: burst" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("config", "check"), ("status",), ("doctor",)])
def test_a_store_that_evicts_is_one_sentence_and_exit_1(
    world: World, command: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        options = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
        server, url = start_server(Path(folder), *options)
        world.store_url = url
        # Only the file: the client is opened by the command.
        world.config.write_text(f'[store]\nurl = "{url}"\n[clients.acme]\nbase_url = "http://h"\n')
        result = world.run(*command)
        server.terminate()
        server.wait()

    assert result.exit_code == 1
    assert result.output.count("set maxmemory-policy noeviction") == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["status", "jobs", "doctor", "watch"])
def test_a_store_that_is_away_is_one_sentence_and_exit_1(world: World, command: str) -> None:
    url = "redis://:canary-password@127.0.0.1:9/0"
    world.config.write_text(f'[store]\nurl = "{url}"\n[clients.acme]\nbase_url = "http://h"\n')

    result = world.run(command, *(["j1"] if command == "watch" else []))

    assert result.exit_code == 1
    assert "the store did not answer" in result.output
    assert "canary" not in result.output
    assert "Traceback" not in result.output
