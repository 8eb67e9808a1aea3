from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestration.cli.limit_table import describe_limits, format_limit
from orchestration.sandbox.process import SandboxProcess
from tests.conftest import hide_settings, start_server
from tests.support.world import SECRET
from workers.settings.load import load

#: Bytes that are no UTF-8, as the environment gives them.
NO_TEXT = b"canary\xff\xfe".decode(errors="surrogateescape")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World


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
    assert (limit["burst"], limit["reserve"], limit["lead_s"]) == (3, 0, 0)
    assert limit["worst_case"] <= 300
    assert acme["auth"] == "client_credentials"
    text = world.run("config", "check")
    assert text.exit_code == 0
    assert "auth client_credentials" in text.stdout
    assert "token obtained" in text.stdout
    assert f"at most {limit['worst_case']} in any 10 s" in text.stdout


def test_each_limit_is_shown_with_what_the_governor_makes_of_it(world: World) -> None:
    more = (
        "calibration = 'tight'\n[[clients.acme.limits]]\nname = 'up'\ncount = 2\n"
        "shape = 'concurrent'\nmatch = 'POST /up'\n"
        "[[clients.acme.tenants.emea.limits]]\nname = 'cap'\ncount = 50\nshape = 'fixed_window'"
    )
    world.configure(limits=f"count = 200\n{more}")

    text = world.run("config", "check").stdout
    told = json.loads(world.run("config", "check", "--json").stdout)

    assert "200 per 1 s, bucket, tight, * *\n" in text
    assert "199.56 calls/s, burst 22, 1 of it for urgent; at most 241 in any 1 s\n" in text
    assert "a bucket's burst comes on top of its rate" in text
    assert "limit up          2 at once, POST /up\n" in text
    assert "limit emea/cap    50 per 1 s, fixed_window, tight, * *\n" in text
    assert "burst 2, bells ring 50 ms ahead; at most 50 in any 1 s\n" in text
    app, up, cap = told["clients"]["acme"]["limits"]
    assert app == {
        "name": "app",
        "tenant": None,
        "count": 200,
        "window_s": 1,
        "shape": "bucket",
        "match": "* *",
        "calibration": "tight",
        "rate_per_s": 199.560966,
        "burst": 22,
        "reserve": 1,
        "lead_s": 0,
        "spread_s": 0.1,
        "worst_case": 241,
        "also": [],
    }
    assert (up["rate_per_s"], up["window_s"], up["burst"], up["worst_case"]) == (None, None, 2, 2)
    assert (cap["name"], cap["tenant"], cap["lead_s"]) == ("emea/cap", "emea", 0.05)


def test_the_examples_of_the_docs_are_what_the_check_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_settings(monkeypatch)
    pages = sorted((Path(__file__).parents[3] / "docs").rglob("*.md"))
    docs = "\n".join(page.read_text("utf-8") for page in pages)
    examples = re.findall(r"```toml\n([^`]*)```\n\n```text\n([^`]*)```", docs)

    assert len(examples) >= 4
    for text, shown in examples:
        (tmp_path / "headgate.toml").write_text(text)
        clients = load(tmp_path / "headgate.toml").clients
        lines = []
        for name, client in clients.items():
            lines += [f"client {name}"] if len(clients) > 1 else []
            lines += [f"  {line}" for it in describe_limits(client) for line in format_limit(it)]
        assert shown.splitlines() == lines


@pytest.mark.parametrize(
    ("form", "secret", "code", "said"),
    [
        ('auth = "bearer"', "canary-token", 0, "auth bearer, base_url reachable, secret present\n"),
        ('auth = "bearer"', "canary token", 2, "cannot stand in a header"),
        ('auth = "api_key"\napi_key_header = "X-Api-Key"', "", 2, "ACME_SECRET is not set"),
        ("", "", 0, "auth none, base_url reachable\n"),
    ],
)
def test_a_form_without_a_token_endpoint_is_shown_with_whether_its_secret_is_there(
    world: World,
    provider: SandboxProcess,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    secret: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("ACME_SECRET", secret)
    text = f'base_url = "{provider.url}"\nclient_secret_env = "ACME_SECRET"\n{form}\n'
    world.config.write_text(
        f'[store]\nurl = "{world.store_url}"\n[clients.acme]\n{text}'
        f'[[clients.acme.limits]]\nname = "app"\ncount = 10\n'
    )

    result = world.run("config", "check")

    assert result.exit_code == code
    assert said in result.stdout
    assert "canary" not in result.output


def test_a_tenant_of_nice_is_found_and_an_unknown_one_is_one_sentence(
    world: World, provider: SandboxProcess
) -> None:
    found = world.run("config", "discover", "t-1", "--url", provider.url)
    told = world.run("config", "discover", "t-1", "--url", provider.url, "--json")
    unknown = world.run("config", "discover", "", "--url", provider.url)
    away = world.run("config", "discover", "t-1", "--url", "http://127.0.0.1:9")

    base = f"{provider.url}/inContactAPI/services/v31.0"
    assert f'base_url = "{base}"\n' in found.stdout
    assert json.loads(told.stdout)["token_url"] == f"{provider.url}/auth/token"
    assert (found.exit_code, unknown.exit_code, away.exit_code) == (0, 2, 1)
    assert "names no endpoints of this tenant (it answered 400)" in unknown.output
    assert "connection refused" in away.output


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


@pytest.mark.parametrize(
    "more",
    [
        "",
        'proxy = "http://127.0.0.1:9"\nproxy_username = "u"\nproxy_password_env = "ACME_SECRET"',
    ],
)
def test_a_secret_of_bytes_that_are_no_text_is_one_sentence_and_exit_2(
    world: World, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    world.configure(more=more)
    monkeypatch.setenv("ACME_SECRET", NO_TEXT)

    result = world.run("config", "check")

    assert result.exit_code == 2
    assert "the environment variable ACME_SECRET holds bytes that are no UTF-8" in result.output
    assert "canary" not in result.output


@pytest.mark.parametrize("key", ["CLIENT_SECRET_FILE", "CA_FILE"])
def test_a_name_of_bytes_that_are_no_text_is_shown_with_them_written_out(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(f"HEADGATE_CLIENTS__ACME__{key}", f"/nowhere/{NO_TEXT}")
    if key == "CLIENT_SECRET_FILE":
        world.config.write_text(world.config.read_text().replace("client_secret_env", "#"))

    result = world.run("config", "check")

    assert result.exit_code == 2
    assert "/nowhere/canary" in result.output


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "NO_PROXY"])
def test_a_proxy_of_the_environment_that_is_no_text_is_no_traceback(
    world: World, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in (variable, variable.lower()):
        monkeypatch.setenv(name, f"http://{NO_TEXT}:1")

    result = world.run("config", "check")

    assert result.exit_code in {1, 2}
    assert "client acme" in result.output
