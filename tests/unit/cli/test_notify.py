"""`headgate notify test`, and what `config check` says of [notify]."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import free_port
from tests.support.receiver import a_receiver

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.world import World

SECRET = "A" * 32


def tell(world: World, lines: str) -> None:
    world.config.write_text(f"{world.config.read_text()}\n[notify]\n{lines}\n")


def test_a_test_is_delivered_by_the_command(world: World, tmp_path: Path) -> None:
    code = f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.read())"
    tell(world, f"command = {json.dumps([sys.executable, '-c', code])}")

    result = world.run("notify", "test")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"delivered to {sys.executable}: notice msg_")
    document = json.loads((tmp_path / "got").read_text())
    assert (document["type"], document["data"]) == ("test", {})
    assert list(world.client.store.scan_iter(f"{world.namespace}:*")) == []


def test_a_test_is_delivered_to_the_url(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    with a_receiver() as receiver:
        tell(world, f'url = "{receiver.url}"\nsecret_env = "HOOK"')
        result = world.run("notify", "test")
        receiver.status = 503
        refused = world.run("notify", "test")

    assert (result.exit_code, len(receiver.received)) == (0, 2)
    assert "canary" not in result.stdout
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == ("headgate: the notice was not delivered: 127.0.0.1 answered 503\n")


def test_a_test_without_a_receiver_is_one_sentence(world: World) -> None:
    result = world.run("notify", "test")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "headgate: notify: there is neither command nor url; set one under [notify]\n"
    )


def check(world: World) -> tuple[dict[str, object], list[str], str]:
    """What `config check` says of [notify]: facts, problems and text."""
    answer = json.loads(world.run("config", "check", "--json").stdout)
    problems = [text for text in answer["problems"] if "notify" in text]
    return answer["notify"], problems, world.run("config", "check").stdout


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('command = "/nowhere/tell"', "the program /nowhere/tell is not there, or may not be"),
        ('url = "https://127.0.0.1:1/canary"\nsecret_env = "NOWHERE"', "variable NOWHERE is not"),
        ('url = "https://127.0.0.1:1/canary"\nsecret_env = "SHORT"', "the secret has 3 bytes"),
        ('url = "https://127.0.0.1:{port}/canary"\nsecret_env = "HOOK"', "connection refused"),
        ('url = "https://127.0.0.1:1/canary"\nsecret_env = "HOOK"\nca_file = "/nowhere.pem"',
         "notify: /nowhere.pem cannot be read"),
    ],
)  # fmt: skip
def test_the_check_says_what_is_wrong_with_the_receiver(
    world: World, monkeypatch: pytest.MonkeyPatch, lines: str, why: str
) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.setenv("SHORT", "AAAA")
    tell(world, lines.replace("{port}", str(free_port())))

    _, problems, text = check(world)

    assert len(problems) == 1
    assert why in problems[0]
    assert why in text
    assert "canary" not in text


def test_the_check_of_a_receiver_that_is_there_delivers_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    with a_receiver() as receiver:
        tell(world, f'url = "{receiver.url}"\nsecret_env = "HOOK"')
        facts, problems, text = check(world)

    assert (facts, problems, receiver.received) == ({"place": "127.0.0.1"}, [], [])
    assert "notify            127.0.0.1" in text
