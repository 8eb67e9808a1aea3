"""No secret and no personal data where they do not belong: canaries are looked for everywhere."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError  # noqa: A004 -- the server ends first

from tests.support.fleet import ROOT, SECRET, Fleet, until
from tests.support.proxy import a_proxy
from tests.support.stored import transaction_hash
from workers.app import app
from workers.clients import Clients
from workers.settings.load import load
from workers.store.connection import connect

CANARIES = ("canary-name", "+15550100099", SECRET)
PASSWORD, API_KEY = "canary-proxy-password", "canary-api-key"


def ledger(fleet: Fleet) -> str:
    return json.dumps([transaction_hash(fleet.client, key) for key in fleet.keys().values()])


def rows() -> list[dict[str, Any]]:
    """Rows that carry a name, a number and a header, some of which the provider refuses."""
    return [
        {
            "line": n,
            "id": f"r{n}",
            "steps": [
                {
                    "name": "one",
                    "method": "POST",
                    "path": "/people",
                    "headers": {"X-Name": "canary-name"},
                    "body": {"business_id": f"r{n}.1", "name": "canary-name", "to": CANARIES[1]},
                }
            ],
        }
        for n in range(40)
    ]


def test_canaries_are_found_in_no_message_log_event_status_report_or_process_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = [
        {"match": "POST *", "when": {"every": 6}, "times": 3, "kind": "5xx_before"},
        {"match": "POST *", "when": {"business_ids": ["r7.1"]}, "kind": "400"},
        {"match": "POST *", "when": {"business_ids": ["r9.1"]}, "kind": "bad_json"},
    ]
    with Fleet(broker=True, sandbox={"faults": faults}) as fleet:
        monkeypatch.setenv("HEADGATE_CONFIG", str(fleet.config))  # for what is shown of our app
        seen: list[str] = []
        broker = f"redis://127.0.0.1:{fleet.broker_port}/1"
        watching = threading.Thread(target=watch, args=(broker, seen), daemon=True)
        watching.start()
        until(lambda: seen, what="the first command at the broker")
        fleet.submit(rows())
        fleet.start_worker("w1", env={"HEADGATE_WORKER__EVENTS": "true"})
        fleet.wait()
        token = fleet.client.tokens().get()
        assert token is not None
        canaries = (*CANARIES, token.value.get_secret_value())

        places = {
            "broker": "\n".join(seen + [decoded(it) for it in seen]),
            "log": fleet.log("w1"),
            "arguments": processes(),
            "ledger": ledger(fleet),
            "oauth": json.dumps(fleet.client.store.hgetall(fleet.client.keys.oauth)),
            "status": command(fleet, "status", "--json"),
            "jobs": command(fleet, "jobs", "--json"),
            "report": command(fleet, "report", "job", "--format", "csv"),
            "doctor": command(fleet, "doctor", "--json"),
            "reprs": repr(fleet.clients.settings) + repr(token) + repr(app.conf),
        }
        assert "headgate" in places["log"]
        assert "task-succeeded" in places["broker"]
        assert "r7" in places["report"]
        hits = {(name, it) for name, text in places.items() for it in canaries if it in text}
        assert hits == set()


@pytest.mark.parametrize("accepted", [True, False])
def test_a_proxy_password_and_an_api_key_are_found_nowhere(*, accepted: bool) -> None:
    sandbox = {"api_keys": {API_KEY: "acme"} if accepted else {}}
    with (
        Fleet(sandbox=sandbox, broker=True) as fleet,
        a_proxy(f"corp:{PASSWORD if accepted else 'another'}") as proxy,
    ):
        text = re.sub(r"(token_url|client_id) = .*\n", "", fleet.config.read_text())
        form = (
            'auth = "api_key"\napi_key_header = "X-Api-Key"\nproxy_username = "corp"\n'
            f'proxy_password_env = "ACME_PROXY"\nproxy = "{proxy.url}"\n'
        )
        fleet.config.write_text(text.replace("[clients.acme]\n", f"[clients.acme]\n{form}"))
        fleet.environment |= {"ACME_SECRET": API_KEY, "ACME_PROXY": PASSWORD}
        seen: list[str] = []
        broker = f"redis://127.0.0.1:{fleet.broker_port}/1"
        threading.Thread(target=watch, args=(broker, seen), daemon=True).start()
        until(lambda: seen, what="the first command at the broker")
        fleet.submit(rows())
        fleet.start_worker("w1", env={"HEADGATE_WORKER__EVENTS": "true"})
        if accepted:
            assert fleet.wait() == {"succeeded": 40}
        else:
            until(lambda: any(it and it.error for it in fleet.transactions().values()))
        client = Clients(load(fleet.config))["acme"]

        places = {
            "broker": "\n".join(seen + [decoded(it) for it in seen]),
            "log": fleet.log("w1"),
            "arguments": processes(),
            "ledger": ledger(fleet),
            "status": command(fleet, "status", "--json"),
            "check": command(fleet, "config", "check", "--json"),
            "report": command(fleet, "report", "job", "--format", "csv"),
            "reprs": repr(client.settings()) + repr(client.tokens()),
        }
        assert proxy.asked
        assert '"auth": "api_key"' in places["check"]
        pair = base64.b64encode(f"corp:{PASSWORD}".encode()).decode()
        canaries = (PASSWORD, API_KEY, pair)
        hits = {(name, it) for name, text in places.items() for it in canaries if it in text}
        assert hits == set()


def decoded(text: str) -> str:
    """The bodies of messages and events in a command, which travel as base64."""
    bodies = re.findall(r'"body": "([A-Za-z0-9+/=]+)"', text)
    return " ".join(base64.b64decode(body).decode(errors="replace") for body in bodies)


def watch(url: str, seen: list[str]) -> None:
    """Note every command that reaches the broker: messages and events."""
    with suppress(ConnectionError), connect(url, timeout_s=60).monitor() as monitor:
        connect(url).ping()
        seen.extend(map(str, monitor.listen()))


def processes() -> str:
    """The arguments of every process of this machine that may be read."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def command(fleet: Fleet, *arguments: str) -> str:
    """What a command of ours prints, on both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *arguments],
        capture_output=True,
        text=True,
        env=fleet.environment,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
