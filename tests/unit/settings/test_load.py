"""A wrong configuration is one sentence that says what to change, and never a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import pytest
import redis

from tests.conftest import hide_settings
from workers.errors import ConfigError
from workers.settings.client import ClientSettings, TenantSettings
from workers.settings.limits import LimitSettings
from workers.settings.load import Settings, WorkerSettings, load
from workers.store.connection import broker_url_of, url_of

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

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


@pytest.mark.parametrize("url", ["redis://app@h:6379/0?socket_timeout=5", "redis://h/0"])
def test_the_password_of_a_store_may_stand_in_a_file_of_its_own(
    home: Home, tmp_path: Path, url: str
) -> None:
    (tmp_path / "password").write_text("canary#/?@:%\n")

    store = home.load(f'[store]\nurl = "{url}"\npassword_file = "{tmp_path}/password"\n').store

    assert "canary" not in repr(store)
    connection = redis.ConnectionPool.from_url(url_of(store)).connection_kwargs
    assert connection["password"] == "canary#/?@:%"
    assert connection.get("username") == ("app" if "app@" in url else None)
    assert (connection["host"], connection["db"]) == ("h", 0)
    assert connection.get("socket_timeout") == (5.0 if "?" in url else None)
    assert broker_url_of(store) == url_of(store)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('password_file = "f"', "password_file goes with url"),
        ('url = "redis://:canary@h/0"\npassword_file = "f"', "in two places"),
        ('url = "redis://h/0"\npassword_env = "P"\npassword_file = "f"', "in two places"),
    ],
)
def test_the_password_of_a_store_stands_in_one_place(home: Home, text: str, said: str) -> None:
    assert said in home.refusal(f"[store]\n{text}\n")


def test_the_password_of_a_broker_may_stand_in_a_file_too_and_needs_none_of_the_store(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("canary\n")
    text = (
        '[store]\nurl = "redis://app@h/0"\npassword_file = "nowhere"\n'
        f'broker_url = "redis://bells@b/1"\nbroker_password_file = "{tmp_path}/password"\n'
    )

    store = home.load(text).store

    assert "canary" not in repr(store)
    connection = redis.ConnectionPool.from_url(broker_url_of(store)).connection_kwargs
    assert (connection["username"], connection["password"]) == ("bells", "canary")
    assert (connection["host"], connection["db"]) == ("b", 1)
    with pytest.raises(ConfigError, match="password_file nowhere cannot be read"):
        url_of(store)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "redis://h/0"\nbroker_password_file = "f"', "goes with broker_url"),
        (
            'broker_url = "redis://:canary@h/0"\nbroker_password_env = "P"',
            "the broker stands in two",
        ),
    ],
)
def test_the_password_of_a_broker_stands_in_one_place(home: Home, text: str, said: str) -> None:
    assert said in home.refusal(f"[store]\n{text}\n")


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
        *(
            ("[worker]\n", f"{it}_s")
            for it in ("bell_grace", "lease_margin", "backlog_after", "tick")
        ),
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
    for name in ("ACME_SECRET", "FAILPOINT_ONCE", "STORE_IDLE_S", "SERVICE_HOST", "PORT_6379_TCP"):
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


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("STORE", '{"namespace": "a", "namespace": "canary"}', "store"),
        ("CLIENTS", '{"acme": {}, "acme": {"region": "canary"}}', "clients"),
        ("CLIENTS__ACME", '{"base_url": "https://a", "base_url": "https://canary"}', "acme"),
        ("CLIENTS__ACME__LIMITS", '[{"name": "a", "name": "canary"}]', "limits"),
    ],
)
def test_a_name_given_twice_in_the_json_of_a_variable_is_one_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str
) -> None:
    monkeypatch.setenv(f"HEADGATE_{variable}", value)

    assert f"environment: the JSON for {field} gives one name twice" in home.refusal(ACME)


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


# Limits


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ('shape = "fixed_window"\ncalibration = "guide"', 'calibration "guide" is a rule for bu'),
        ('calibration = "loose"', "calibration: Input should be 'guide' or 'tight'"),
        ('shape = "concurrent"\nwindow_s = 1', "leave out window_s"),
        ('shape = "concurrent"\nrate = 1.0\nburst = 2', "leave out rate and burst"),
        ('shape = "concurrent"\ncalibration = "tight"', "leave out calibration"),
        ('shape = "concurrent"\nreserve = 1', "leave out reserve"),
        ("reserve = 4", "limit app: reserve 4 leaves nothing of burst 4 to the other lanes"),
        ("reserve = -1", "limits.0.reserve"),
    ],
)
def test_what_does_not_fit_the_shape_of_a_limit_is_refused(
    home: Home, limit: str, said: str
) -> None:
    refusal = home.refusal(f"{LIMIT}count = 5\n{limit}\n")

    assert refusal.startswith(f"configuration {home.file}: clients.acme")
    assert said in refusal


@pytest.mark.parametrize(
    ("shape", "calibration"),
    [
        ("bucket", "guide"),
        ("fixed_window", "tight"),
        ("sliding_window", "tight"),
        ("concurrent", None),
    ],
)
def test_a_limit_is_calibrated_as_its_shape_allows(
    home: Home, shape: str, calibration: str | None
) -> None:
    it = home.load(f'{LIMIT}count = 5\nshape = "{shape}"\n')

    assert it.clients["acme"].limits[0].calibration == calibration


@pytest.mark.parametrize("name", ["client", "emea/cap", "a:b"])
def test_a_limit_has_a_name_that_is_free(home: Home, name: str) -> None:
    limit = f'[[clients.acme.limits]]\nname = "{name}"\ncount = 5\n'

    assert "clients.acme.limits.0.name: " in home.refusal(ACME + limit)


def test_a_limit_may_be_named_after_a_route(home: Home) -> None:
    it = home.load(f"{ACME}[[clients.acme.limits]]\nname = 'route-7'\ncount = 5\n")

    assert [limit.name for limit in it.clients["acme"].limits] == ["route-7"]


# Tenants

CAP = '[[clients.acme.tenants.emea.limits]]\nname = "cap"\n'
EMEA, APAC = "[clients.acme.tenants.emea]\n", "[clients.acme.tenants.apac]\n"


def test_a_tenant_may_have_limits_of_its_own(home: Home) -> None:
    it = home.load(f"{LIMIT}count = 50\n{CAP}count = 5\n").clients["acme"]

    assert [limit.count for limit in it.limits] == [50]
    assert [limit.count for limit in it.tenants["emea"].limits] == [5]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("count = 5\nrate = 1000.0", "limit cap: burst 4 at 1000"),
        (f"count = 5\n{CAP}count = 6", "two limits have the same name"),
        ("window_s = 5", "limits.0.count: Field required"),
    ],
)
def test_a_limit_of_a_tenant_that_cannot_be_kept_is_refused(
    home: Home, limit: str, said: str
) -> None:
    refusal = home.refusal(f"{ACME}{CAP}{limit}\n")

    assert "clients.acme.tenants.emea" in refusal
    assert said in refusal


def test_a_limit_without_count_is_the_sum_of_its_tenants_quotas(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_CLIENTS__ACME__TENANTS__LATAM__QUOTA", "30")
    own = f'[clients.acme.tenants.own]\nclient = "other"\n{ACME.replace("acme", "other")}'
    more = '[[clients.acme.limits]]\nname = "day"\ncount = 9000\nwindow_s = 86_400\n'

    it = home.load(f"{LIMIT}window_s = 10\n{more}{EMEA}quota = 200\n{APAC}quota = 70\n{own}")

    assert [limit.count for limit in it.clients["acme"].limits] == [300, 9000]


@pytest.mark.parametrize(
    ("tenants", "said"),
    [
        ("", "limit app: without count it is the sum of its tenants' quotas, and there are no"),
        (f"{EMEA}quota = 5\n{APAC}weight = 2\n", "and tenant 'apac' has none"),
        (f"{EMEA}quota = 0\n", "clients.acme.tenants.emea.quota: "),
        (f'{EMEA}quota = "many"\n', "clients.acme.tenants.emea.quota: "),
    ],
)
def test_a_limit_without_count_needs_a_quota_of_each_tenant(
    home: Home, tenants: str, said: str
) -> None:
    refusal = home.refusal(f"{LIMIT}{tenants}")

    assert "clients.acme" in refusal
    assert said in refusal


@pytest.mark.parametrize(
    ("tenants", "weights"),
    [
        (f"{EMEA}quota = 200\n{APAC}quota = 50\n", (4, 1)),
        (f"{EMEA}quota = 200\nweight = 3\n{APAC}quota = 50\n", (3, 1)),
        (f"{EMEA}quota = 200\n{APAC}", (1, 1)),
        (f"{EMEA}\n{APAC}weight = 7\n", (1, 7)),
    ],
)
def test_quotas_are_the_weights_of_tenants_where_none_has_a_weight(
    home: Home, tenants: str, weights: tuple[int, int]
) -> None:
    client = home.load(f"{ACME}{tenants}").clients["acme"]

    assert (client.weight_of("emea"), client.weight_of("apac")) == weights
    assert client.weight_of("-") == 1


@pytest.mark.parametrize(
    ("breaker", "said"),
    [
        ("percent = 0", "breaker.percent: "),
        ("percent = 100", "breaker.percent: "),
        ("percent = true", "breaker.percent: "),
        ("window_s = 0", "breaker.window_s: "),
        ("window_s = 16", "breaker.window_s: "),
        ("window_s = 2.5", "breaker.window_s: "),
        ("min_calls = 0", "breaker.min_calls: "),
        ("min_calls = 10_001", "breaker.min_calls: "),
        ("minimum = 5", "minimum"),
    ],
)
def test_a_rule_of_the_breaker_that_cannot_be_kept_is_refused(
    home: Home, breaker: str, said: str
) -> None:
    refusal = home.refusal(f"{ACME}[clients.acme.breaker]\n{breaker}\n")

    assert "clients.acme" in refusal
    assert said in refusal


def test_the_breaker_has_the_guide_s_rule_unless_it_is_set(home: Home) -> None:
    assert home.load(ACME).clients["acme"].breaker.rules == ((60, 10, 20),)
    given = home.load(f"{ACME}[clients.acme.breaker]\npercent = 40\nmin_calls = 5\n")
    assert given.clients["acme"].breaker.rules == ((40, 10, 5),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{EMEA}client = "acme"\n', "tenants.emea.client: is this client itself"),
        (f'{EMEA}client = "acne"\n', "there is no client 'acne'; did you mean 'acme'?"),
        (f'{EMEA}client = "zzz"\n', "there is no client 'zzz'; add [clients.zzz]"),
        (f'{EMEA}client = "other"\nweight = 2\n', "no part of this one; leave out weight"),
        (f'{EMEA}client = "other"\n{CAP}count = 1\n', "no part of this one; leave out limits"),
        (
            f'{EMEA}client = "other"\n[clients.other.tenants.emea]\nclient = "acme"\n',
            "clients.acme.tenants.emea.client: leads on to client 'acme'",
        ),
    ],
)
def test_a_client_of_a_tenants_own_is_another_one_that_is_there(
    home: Home, text: str, said: str
) -> None:
    assert said in home.refusal(f'{ACME}[clients.other]\nbase_url = "http://other"\n{text}')


# Profiles

GENESYS = (
    '[clients.acme]\nprovider = "genesys"\nclient_id = "me"\nclient_secret_env = "ACME_SECRET"\n'
)


@pytest.mark.parametrize(
    ("provider", "count", "window_s", "shape", "calibration"),
    [
        ("genesys", 300, 60, "fixed_window", "tight"),
        ("genesys-guide", 200, 1, "bucket", "guide"),
        ("nice", 100, 1, "fixed_window", "tight"),
        ("nice-guide", 100, 1, "bucket", "guide"),
    ],
)
def test_a_profile_has_the_numbers_of_its_platform_or_of_the_guide(
    home: Home, provider: str, count: int, window_s: float, shape: str, calibration: str
) -> None:
    it = home.load(f'{ACME}provider = "{provider}"\n').clients["acme"]

    (limit,) = it.limits
    assert (limit.count, limit.window_s, limit.shape) == (count, window_s, shape)
    assert limit.calibration == calibration
    assert it.idempotency == "none"  # no platform promises more


@pytest.mark.parametrize("provider", ["genesys", "genesys-guide"])
@pytest.mark.parametrize("region", ["eu-central-1", "eu_central_1", "EU-Central-1"])
def test_a_region_names_the_hosts(home: Home, provider: str, region: str) -> None:
    text = GENESYS.replace('"genesys"', f'"{provider}"')

    it = home.load(f'{text}region = "{region}"\n').clients["acme"]

    assert it.base_url == "https://api.mypurecloud.de"
    assert it.token_url == "https://login.mypurecloud.de/oauth/token"


def test_signed_urls_of_genesys_may_lead_to_the_domain_of_the_clients_region(home: Home) -> None:
    hosts = home.load(f'{GENESYS}region = "eu_central_1"\n').clients["acme"].upload_hosts
    everywhere = home.load(f'{ACME}provider = "genesys"\n').clients["acme"].upload_hosts
    own = home.load(f'{GENESYS}region = "us-east-1"\nupload_hosts = ["*.Files.example.com"]\n')

    assert hosts == ("*.mypurecloud.de",)
    assert len(everywhere) == 18
    assert {"*.mypurecloud.com", "*.usw2.pure.cloud"} < {*everywhere}
    assert own.clients["acme"].upload_hosts == ("*.files.example.com",)
    for provider in ("nice", "rest", "sandbox"):
        assert home.load(f'{ACME}provider = "{provider}"\n').clients["acme"].upload_hosts == ()


@pytest.mark.parametrize(
    "host",
    [
        "", "*", "*.", "*.com", ".example.com", "files.*.com", "*files.example.com", "a..b",
        "https://files.example.com", "files.example.com/canary", "files.example.com:443",
        "canary@files.example.com", "files example", "[::1]", "f\u00fcr.example", "a" * 64,
        "10.0.0.1", "8.8.8.8", "127.1", "2130706433", "0x7f.1", "localhost", "files.LOCALHOST",
        "*.0.1",
    ],
)  # fmt: skip
def test_a_host_of_signed_urls_is_a_name_or_all_names_below_a_domain(home: Home, host: str) -> None:
    sentence = home.refusal(f"{ACME}upload_hosts = [{json.dumps(host)}]\n")

    assert "clients.acme.upload_hosts.0: must be a host such as files.example.com" in sentence


def test_a_clients_own_urls_stand_above_its_region(home: Home) -> None:
    own = 'base_url = "http://proxy"\ntoken_url = "http://proxy/token"\n'

    it = home.load(f'{GENESYS}region = "us-east-1"\n{own}').clients["acme"]

    assert (it.base_url, it.token_url) == ("http://proxy", "http://proxy/token")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GENESYS, "clients.acme.region: set it, or base_url; there are us-east-1, "),
        (f'{GENESYS}region = "eu-north-9"\n', "acme.region: this region is unknown; there are us"),
        (f"{GENESYS}region = 7\n", "acme.region: this region is unknown; there are us"),
        (f'{ACME}region = "eu-central-1"\n', "acme.region: this provider has no known regions"),
        ('[clients.acme]\nprovider = "nice"\n', "clients.acme.base_url: Field required"),
        (f'{ACME}provider = "gensys"\n', "unknown; use rest, genesys, genesys-guide, nice, "),
    ],
)
def test_a_region_that_is_not_known_is_told_with_those_that_are(
    home: Home, text: str, said: str
) -> None:
    assert said in home.refusal(text)


#: No name of a host: a label is empty or too long.
NO_HOSTS = ("a..b", "a" * 70, f"x.{'b' * 64}.example", ".example")


@pytest.mark.parametrize("host", NO_HOSTS)
@pytest.mark.parametrize("name", ["url", "broker_url"])
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_server_whose_host_is_no_name_is_one_sentence(
    home: Home, name: str, scheme: str, host: str
) -> None:
    sentence = home.refusal(f'[store]\n{name} = "{scheme}://:canary@{host}:6379"\n')

    assert f"store.{name}: " in sentence
    assert "host" in sentence


@pytest.mark.parametrize("host", NO_HOSTS)
@pytest.mark.parametrize("key", ["base_url", "token_url", "proxy"])
def test_a_url_whose_host_is_no_name_is_one_sentence(home: Home, key: str, host: str) -> None:
    text = f'[clients.acme]\nbase_url = "http://provider"\n{key} = "http://{host}:80"\n'
    if key == "base_url":
        text = f'[clients.acme]\nbase_url = "http://{host}:80"\n'

    assert f"clients.acme.{key}: cannot be read as a URL" in home.refusal(text)


@pytest.mark.parametrize(
    "option",
    [
        *(f"{name}={value}" for name in ("socket_timeout", "socket_connect_timeout",
          "health_check_interval") for value in ("1e18", "1e300", "86401", "-1", "true")),
        "ssl_ca_certs=%00", "ssl_certfile=a%00b", "ssl_ca_certs=a%0Ab",
    ],
)  # fmt: skip
def test_an_option_of_a_server_that_nothing_can_use_is_one_sentence(
    home: Home, option: str
) -> None:
    sentence = home.refusal(f'[store]\nurl = "rediss://:canary@127.0.0.1:6379?{option}"\n')

    assert option.partition("=")[0] in sentence


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[store]\ndata_dir = "\\u0000"\n', "store.data_dir"),
        ('[store]\npassword_file = "a\\u0000b"\n', "store.password_file"),
        ('[worker]\nmedia_root = "\\u0000"\n', "worker.media_root"),
        (f'{ACME}ca_file = "\\u0000"\n', "clients.acme.ca_file"),
        (f'{ACME}client_secret_env = "\\u0000"\n', "clients.acme.client_secret_env"),
        (f'{ACME}scope = "a\\u0000"\n', "clients.acme.scope"),
    ],
)
def test_a_value_with_a_nul_character_is_one_sentence(home: Home, text: str, place: str) -> None:
    assert f"{place}: must not hold a NUL character" in home.refusal(text)


def numbers_of(model: type[BaseModel]) -> list[str]:
    """The fields of a model that are numbers."""
    return [
        name
        for name, field in model.model_fields.items()
        if {int, float} & {field.annotation, *get_args(field.annotation)}
    ]


@pytest.mark.parametrize("value", ["true", "false"])
@pytest.mark.parametrize(
    ("section", "key"),
    [
        (section, key)
        for section, model in {
            "[worker]\n": WorkerSettings,
            ACME: ClientSettings,
            LIMIT: LimitSettings,
            f"{ACME}[clients.acme.tenants.emea]\n": TenantSettings,
        }.items()
        for key in numbers_of(model)
    ],
)
def test_a_boolean_is_no_number(home: Home, section: str, key: str, value: str) -> None:
    whole = "count = 5\n" if section == LIMIT and key != "count" else ""

    sentence = home.refusal(f"{section}{whole}{key} = {value}\n")

    assert f"{key}: must be a number, not true or false" in sentence


@pytest.mark.parametrize(
    "path",
    [
        "", "x", "//evil.example/x", "/a//b", "/x#y", "/a b", "/\u00fc", "http://evil.example/",
        "/a/../b", "/%2e%2e/b", "/.", "/" + "a" * 2048,
    ],
)  # fmt: skip
def test_a_probe_is_a_path_of_the_clients_own_host(home: Home, path: str) -> None:
    assert "clients.acme.probe: " in home.refusal(f"{ACME}probe = {json.dumps(path)}\n")


def test_a_probe_may_have_a_query_and_the_longest_path(home: Home) -> None:
    for path in ("/", "/api/v2/tokens/me?expand=organization", "/" + "a" * 2047):
        client = home.load(f"{ACME}probe = {json.dumps(path)}\n").client("acme")
        assert client.probe == path


@pytest.mark.parametrize(
    "value",
    ["[" * 100_000, "{a=" * 100_000, "9" * 5000, "0x" + "f" * 5000, "1e400", "[" * 150 + "]" * 150],
    ids=lambda value: value[:8],
)
@pytest.mark.parametrize(
    "place",
    ["[worker]\nconcurrency", f"{ACME}limits", "[store]\nurl"],
    ids=["a number", "limits", "a URL"],
)
def test_a_value_that_nobody_can_read_is_one_sentence(home: Home, place: str, value: str) -> None:
    sentence = home.refusal(f"{place} = {value}\n")

    assert "headgate.toml" in sentence
    assert len(sentence) < 600


@pytest.mark.parametrize("section", ["STORE", "CLIENTS", "CLIENTS__ACME__LIMITS"])
@pytest.mark.parametrize("value", ["[" * 100_000, '{"a":' * 20_000, "[1e400]", f"[{'9' * 5000}]"])
def test_a_variable_that_nobody_can_read_is_one_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, section: str, value: str
) -> None:
    monkeypatch.setenv(f"HEADGATE_{section}", value)

    assert len(home.refusal(ACME)) < 600
