"""A wrong configuration is one sentence that says what to change, and never a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import hide_settings
from workers.errors import ConfigError
from workers.settings import Settings, load

if TYPE_CHECKING:
    from pathlib import Path

ACME = '[clients.acme]\nbase_url = "http://provider"\n'
LIMIT = f'{ACME}[[clients.acme.limits]]\nname = "app"\n'


class Home:
    """A folder with a configuration."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "headgate.toml"

    def load(self, text: str) -> Settings:
        """What is configured by this text."""
        self.file.write_text(text)
        return load(self.file)

    def refusal(self, text: str) -> str:
        """The sentence with which this text is refused."""
        with pytest.raises(ConfigError) as refusal:
            self.load(text)
        sentence = str(refusal.value)
        assert "\n" not in sentence
        assert "canary" not in sentence
        return sentence


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    hide_settings(monkeypatch)
    return Home(tmp_path)


@pytest.mark.parametrize("name", ["url", "broker_url"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://:canary#word@127.0.0.1:6379/0",
        "redis://:12#canary@127.0.0.1:6379/0",
        "redis://:12/canary@127.0.0.1:6379/0",
        "redis://:12?canary@127.0.0.1:6379/0",
        "redis://:canary@127.0.0.1:6379/0?sockets=1",
        "redis://:canary@127.0.0.1:6379/0?socket_timeout=soon",
        "redis://:canary@127.0.0.1:66379/0",
        "redis://:canary@/0",
        "http://:canary@127.0.0.1:6379/0",
        "",
    ],
)
def test_a_store_url_that_cannot_be_read_is_told_without_its_password(
    home: Home, name: str, url: str
) -> None:
    said = home.refusal(f'[store]\n{name} = "{url}"\n')

    assert f"store.{name}: must be redis://" in said
    assert "%23 for #" in said


def test_a_quoted_password_and_options_of_the_connection_are_good(home: Home) -> None:
    url = "rediss://:a%23b%2F@[::1]:6380/2?ssl_cert_reqs=none"

    it = home.load(f'[store]\nurl = "{url}"\n')

    assert it.store.url is not None
    assert it.store.url.get_secret_value() == url


@pytest.mark.parametrize(
    "limit",
    [
        "count = 5\nrate = 1000.0",
        "count = 5\nburst = 6",
        "count = 5\nwindow_s = inf",
        "count = 5\nwindow_s = nan",
        "count = 5\nwindow_s = 1e300",
        "count = 5\nwindow_s = 5e-324",
        f"count = {10**400}",
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(home: Home, limit: str) -> None:
    assert "clients.acme" in home.refusal(LIMIT + limit)


@pytest.mark.parametrize("value", ["inf", "nan", "1e300", "0"])
@pytest.mark.parametrize(
    ("section", "name"),
    [
        *((ACME, f"{it}_timeout_s") for it in ("connect", "read", "total")),
        *((ACME, f"backoff_{it}_s") for it in ("base", "cap")),
        *(("[worker]\n", f"{it}_s") for it in ("bell_grace", "lease_margin", "line_after", "beat")),
    ],
)
def test_a_time_that_is_no_number_of_seconds_is_refused(
    home: Home, section: str, name: str, value: str
) -> None:
    assert name in home.refusal(f"{section}{name} = {value}\n")


@pytest.mark.parametrize("match", ["POST orders", "/orders", "POST", "POST /a /b", "POST \\n/a"])
def test_a_match_that_no_call_can_have_is_refused(home: Home, match: str) -> None:
    said = home.refusal(f'{LIMIT}count = 5\nmatch = "{match}"\n')

    assert "clients.acme.limits.0.match: must be a method and a path" in said


@pytest.mark.parametrize("match", ["* *", "POST /orders", "post *orders"])
def test_a_match_of_method_and_path_is_good(home: Home, match: str) -> None:
    it = home.load(f'{LIMIT}count = 5\nmatch = "{match}"\n')

    assert it.clients["acme"].limits[0].match == match


@pytest.mark.parametrize(
    "header", ["Host", "content-length", "Authorization", "CONTENT-TYPE", "Transfer-Encoding"]
)
def test_the_key_cannot_travel_in_a_header_that_has_another_meaning(
    home: Home, header: str
) -> None:
    assert "idempotency_header" in home.refusal(f'{ACME}idempotency_header = "{header}"\n')


@pytest.mark.parametrize("name", ["emea\\n", "a b", "", "-a", "a" * 65])
def test_a_name_is_plain_to_its_last_character(home: Home, name: str) -> None:
    assert "tenant" in home.refusal(f'{ACME}[clients.acme.tenants."{name}"]\n')
    assert "client" in home.refusal(f'[clients."{name}"]\nbase_url = "http://provider"\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[wroker]\n", "unknown key 'wroker'; did you mean 'worker'?"),
        ("[worker]\nthreads = 3\n", "worker: unknown key 'threads'; there are concurrency, "),
        (f"{ACME}limts = []\n", "clients.acme: unknown key 'limts'; did you mean 'limits'?"),
        (f"{LIMIT}count = 5\nwindow = 1\n", "limits.0: unknown key 'window'; did you mean"),
    ],
)
def test_an_unknown_key_is_told_with_its_place_and_the_nearest_one(
    home: Home, text: str, said: str
) -> None:
    assert said in home.refusal(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://provider/?tenant=canary",
        "http://provider?",
        "http://provider/#canary",
        "http://user:canary@provider",
        "http://",
        "https:///canary",
        "http://provider:canary",
        "http://provider:66379",
        "http://provi der",
        "ftp://provider",
        "",
    ],
)
def test_a_base_url_is_a_place_and_nothing_else(home: Home, url: str) -> None:
    assert "clients.acme.base_url: " in home.refusal(f'[clients.acme]\nbase_url = "{url}"\n')


def test_a_misspelt_section_of_the_environment_is_not_ignored(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_STOER__URL", "redis://:canary@127.0.0.1/0")

    assert "HEADGATE_STOER__URL: unknown key 'stoer'; did you mean 'store'?" in home.refusal("")


def test_variables_of_others_are_left_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACME_SECRET", "BOUNDARY_ONCE", "STORE_IDLE_S", "SERVICE_HOST", "PORT_6379_TCP"):
        monkeypatch.setenv(f"HEADGATE_{name}", "1")
    monkeypatch.setenv("HEADGATE_WORKER__CONCURRENCY", "7")

    assert home.load("").worker.concurrency == 7


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CLIENTS", '{"canary"'), ("STORE", "canary"), ("CLIENTS__ACME__LIMITS", "[{canary")],
)
def test_an_environment_that_is_no_json_is_one_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"HEADGATE_{variable}", value)

    assert "not valid JSON" in home.refusal(ACME)


@pytest.mark.parametrize("content", [b"canary\xff", None])
def test_a_secret_file_that_is_no_text_or_not_there_is_one_sentence(
    home: Home, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "secret"
    if content:
        file.write_bytes(content)
    client = home.load(f'{ACME}client_secret_file = "{file}"\n').clients["acme"]

    with pytest.raises(ConfigError, match="client_secret_file") as refusal:
        client.secret()

    assert "canary" not in str(refusal.value)
