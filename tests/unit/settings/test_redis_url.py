"""What may stand in the URL of a store or broker, and that it verifies unless it is told not to."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import redis
from celery import Celery

from tests.conftest import hide_settings
from workers.broker.transport import broker_settings
from workers.errors import ConfigError
from workers.settings.load import load
from workers.settings.redis_url import is_loopback, read_redis_url
from workers.store.connection import connect

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("options", "verifies", "checks"),
    [
        ("", True, True),
        ("?ssl_cert_reqs=required", True, True),
        ("?ssl_cert_reqs=optional", True, True),
        ("?ssl_cert_reqs=CERT_REQUIRED", True, True),
        ("?ssl_cert_reqs=CERT_OPTIONAL", True, True),
        ("?ssl_check_hostname=true", True, True),
        ("?ssl_check_hostname=True&ssl_cert_reqs=CERT_REQUIRED", True, True),
        ("?ssl_check_hostname=false", True, False),
        ("?ssl_check_hostname=False", True, False),
        ("?ssl_cert_reqs=none", False, False),
        ("?ssl_cert_reqs=CERT_NONE", False, False),
        ("?ssl_cert_reqs=none&ssl_check_hostname=true", False, False),
    ],
)
def test_both_spellings_mean_the_same_to_the_store_and_to_the_broker(
    *, options: str, verifies: bool, checks: bool
) -> None:
    url = f"rediss://user:pass@127.0.0.1:6380/1{options}"

    tls = {
        "ssl_cert_reqs": ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE,
        "ssl_check_hostname": checks,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
    store = connect(url).connection_pool.make_connection()
    assert isinstance(store, redis.SSLConnection)
    seen = (store.cert_reqs, store.check_hostname, store.ssl_min_version)
    assert seen == tuple(tls.values())
    broker = broker_settings(url, {})
    assert broker["broker_use_ssl"] == tls
    assert broker["broker_url"] == "rediss://user:pass@127.0.0.1:6380/1"
    assert broker["broker_transport_options"]["verify_certificates"] is (verifies and checks)


@pytest.mark.parametrize("url", ["rediss://example.com", "rediss://localhost?ssl_cert_reqs=none"])
def test_no_tls_is_spoken_that_is_older_than_1_2_whatever_the_python_would_speak(url: str) -> None:
    server = read_redis_url(url)

    assert server.tls
    assert server.tls["ssl_min_version"] is ssl.TLSVersion.TLSv1_2


def test_a_semicolon_in_a_password_names_no_second_broker() -> None:
    settings = broker_settings("redis://:can;ary@127.0.0.1:6380/1", {})

    with Celery(**settings).connection_for_read() as connection:
        assert (connection.hostname, connection.password) == ("127.0.0.1", "can;ary")
        assert not connection.alt
    client = connect("redis://:can;ary@127.0.0.1:6380/1")
    assert client.connection_pool.connection_kwargs["password"] == "can;ary"


def test_timeouts_hold_for_the_store_and_for_the_broker() -> None:
    seconds = {"socket_timeout": 7.0, "socket_connect_timeout": 1.5, "health_check_interval": 30.0}
    query = "&".join(f"{name}={value:g}" for name, value in seconds.items())
    url = f"redis://127.0.0.1/0?{query}"

    assert connect(url).connection_pool.connection_kwargs.items() >= seconds.items()
    assert broker_settings(url, {})["broker_transport_options"].items() >= seconds.items()
    assert broker_settings(url, {})["broker_use_ssl"] is False


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h/0?max_connections=5", "'max_connections' is unknown"),
        ("rediss://h/0?protocol=3", "'protocol' is unknown"),
        ("redis://h/0?password=canary", "'password' is unknown"),
        ("redis://h/0?db=canary", "'db' is unknown"),
        ("redis://h/0?socket_timeout=canary", "socket_timeout must be a number of seconds"),
        ("redis://h/0?socket_timeout=nan", "socket_timeout must be a number of seconds"),
        ("redis://h/0?socket_timeout=-1", "socket_timeout must be a number of seconds"),
        ("redis://h/0?socket_timeout=", "socket_timeout must be given once, with a value"),
        ("rediss://h/0?ssl_cert_reqs=none&ssl_cert_reqs=required", "ssl_cert_reqs must be given"),
        ("rediss://h/0?ssl_cert_reqs=canary", "must be required, optional or none"),
        ("rediss://h/0?ssl_cert_reqs=False", "must be required, optional or none"),
        ("rediss://h/0?ssl_check_hostname=canary", "must be true or false"),
        ("rediss://h/0?ssl_keyfile=canary", "ssl_keyfile needs ssl_certfile"),
        ("redis://h/0?ssl_ca_certs=canary", "ssl_ca_certs goes with rediss:// alone"),
    ],
)
def test_an_option_that_only_one_of_them_knows_is_refused_by_its_name(url: str, words: str) -> None:
    with pytest.raises(ValueError, match="its option") as refused:
        read_redis_url(url)

    assert words in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("name", ["url", "broker_url"])
@pytest.mark.parametrize("option", ["ssl_cert_reqs=CERT_NONE", "ssl_check_hostname=false"])
def test_verification_ends_beyond_loopback_only_by_the_setting_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, option: str
) -> None:
    hide_settings(monkeypatch)
    file = tmp_path / "headgate.toml"

    def read(host: str, more: str = "") -> None:
        file.write_text(f'[store]\n{name} = "rediss://:canary@{host}/0?{option}"\n{more}\n')
        load(file)

    with pytest.raises(ConfigError) as refused:
        read("db.example.com")
    sentence = str(refused.value)
    assert f"{name} turns off the verification of the certificate of db.example.com" in sentence
    assert "accept_unverified_tls = true" in sentence
    assert "canary" not in sentence
    for host in ("127.0.0.1:6380", "localhost", "[::1]:6380"):
        read(host)
    read("db.example.com", "accept_unverified_tls = true")


def test_the_setting_alone_turns_nothing_off(tmp_path: Path) -> None:
    url = "rediss://db.example.com/0"
    (tmp_path / "a.toml").write_text(f'[store]\nurl = "{url}"\naccept_unverified_tls = true\n')

    server = read_redis_url(str(load(tmp_path / "a.toml").store.server_url()))

    assert server.verifies


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("0.0.0.0", False),  # noqa: S104 -- nothing is bound to it
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(*, host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours
