"""One try to deliver: what a command and a URL get, and what they do not get."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from orchestration.notify import delivery
from orchestration.notify.delivery import ByCommand, Undelivered, open_delivery
from orchestration.notify.events import EventType, Notice
from tests.support.fleet import until
from tests.support.receiver import a_receiver
from tests.support.tls import make_certificate
from workers.errors import ConfigError
from workers.http import webhook
from workers.http.webhook import read_key, sign
from workers.settings.notify import NotifySettings

if TYPE_CHECKING:
    from pathlib import Path

NOTICE = Notice.of(
    EventType.JOB_ENDED, ("acme", "c-1"), 1_700_000_000_000_000, "it ended", job="c-1"
)
#: Those of the test suites of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXAMPLE = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def python(code: str) -> ByCommand:
    """A command that runs this code."""
    return ByCommand((sys.executable, "-c", code))


def hook(url: str, **more: Any) -> NotifySettings:
    return NotifySettings(url=SecretStr(url), secret_env="HOOK_SECRET", **more)


# Commands


def test_a_command_reads_the_document_and_gets_the_events_name_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_STORE__URL", "redis://:canary@127.0.0.1/0")
    monkeypatch.setenv("ACME_SECRET", "canary")
    code = (
        "import json, os, sys; json.dump([json.load(sys.stdin), dict(os.environ), sys.argv], "
        f"open({str(tmp_path / 'got')!r}, 'w'))"
    )

    ByCommand((sys.executable, "-c", code, "$HOME; a b", "*")).deliver(NOTICE)

    document, environment, argv = json.loads((tmp_path / "got").read_text())
    assert document == {
        "type": "job.ended",
        "timestamp": "2023-11-14T22:13:20Z",
        "text": "it ended",
        "data": {"job": "c-1"},
    }
    assert environment["HEADGATE_EVENT"] == "job.ended"
    assert environment["PATH"] == os.environ["PATH"]
    assert environment.keys() <= {*delivery.PASSED_ON, "HEADGATE_EVENT"}
    assert argv[1:] == ["$HOME; a b", "*"]  # no shell has read them


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ([sys.executable, "-c", "raise SystemExit(3)"], "ended with exit code 3"),
        (["/nowhere/notify"], "cannot be started"),
        (["/"], "cannot be started"),
        (["true", "a\0b"], "cannot be started"),
        (["true", "\ud800"], "cannot be started"),
        (["true", "a" * 3_000_000], "cannot be started"),
    ],
)
def test_a_command_that_fails_is_undelivered_in_a_few_words(command: list[str], why: str) -> None:
    with pytest.raises(Undelivered, match=why):
        ByCommand(tuple(command)).deliver(NOTICE)


def test_a_command_that_reads_nothing_is_delivered() -> None:
    python("pass").deliver(NOTICE)


HANGS = (
    "import os, subprocess, sys, time; child = subprocess.Popen(['sleep', '600']); "
    "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}'); time.sleep(600)"
)


def pids(file: Path) -> list[int]:
    until(lambda: file.exists() and " " in file.read_text(), what="the command runs")
    return [int(pid) for pid in file.read_text().split()]


def lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 -- it may vanish meanwhile
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["late", "cancelled"])
def test_a_command_that_hangs_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    file = tmp_path / "pids"
    command = ByCommand((sys.executable, "-c", HANGS, str(file)))
    if how == "late":
        monkeypatch.setattr(delivery, "LIMIT_S", 1.0)
    else:
        cancel = threading.Thread(target=lambda: (pids(file), command.cancel()))
        cancel.start()

    with pytest.raises(Undelivered, match="did not end within 1 s" if how == "late" else "-9"):
        command.deliver(NOTICE)

    until(lambda: not any(map(lives, pids(file))), what="nothing of it is left")
    if how == "cancelled":
        with pytest.raises(Undelivered, match="stops"):
            command.deliver(NOTICE)


# URLs


def test_the_signature_is_that_of_standard_webhooks() -> None:
    assert sign(read_key(SecretStr(SECRET)), *EXAMPLE) == SIGNATURE


def test_a_url_gets_the_document_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook.time, "time", lambda: 1_700_000_123.9)
    with a_receiver() as receiver:
        open_delivery(hook(receiver.url)).deliver(NOTICE)

    ((path, headers, body),) = receiver.received
    assert path == "/hook/canary-path/?key=canary-query"
    assert json.loads(body) == json.loads(NOTICE.document)
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", NOTICE.id)
    assert headers["webhook-timestamp"] == "1700000123"
    signed = f"{NOTICE.id}.1700000123.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 410, 429, 500])
def test_any_answer_but_a_2xx_is_undelivered_and_no_redirect_is_followed(status: int) -> None:
    with a_receiver() as receiver:
        receiver.status = status
        with pytest.raises(Undelivered) as undelivered:
            open_delivery(hook(receiver.url)).deliver(NOTICE)

    assert str(undelivered.value) == f"127.0.0.1 answered {status}"
    assert len(receiver.received) == 1


def test_a_url_that_gives_no_answer_in_time_is_undelivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LIMIT_S", 0.2)
    with a_receiver() as receiver:
        receiver.answers.clear()
        with pytest.raises(Undelivered, match="gave no answer"):
            open_delivery(hook(receiver.url)).deliver(NOTICE)


def test_a_certificate_is_verified_and_an_own_authority_may_be_named(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "hook.pem")
    with a_receiver(certificate) as receiver:
        with pytest.raises(Undelivered, match="certificate") as undelivered:
            open_delivery(hook(receiver.url)).deliver(NOTICE)
        assert receiver.received == []
        assert "canary" not in str(undelivered.value)

        open_delivery(hook(receiver.url, ca_file=certificate)).deliver(NOTICE)
        assert len(receiver.received) == 1


@pytest.mark.parametrize("secret", ["not base64!", "c2hvcnQ=", "whsec_" + "A" * 100])
def test_a_secret_that_no_library_takes_is_refused_without_it(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("HOOK_SECRET", secret)

    with pytest.raises(ConfigError, match="openssl rand") as refusal:
        open_delivery(hook("https://hooks.example.com/a"))
    assert secret not in str(refusal.value)
