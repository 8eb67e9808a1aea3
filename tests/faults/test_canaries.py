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

from redis.exceptions import ConnectionError  # noqa: A004 -- the server ends first

from tests.fleet import ROOT, SECRET, Fleet, until
from workers.app import app
from workers.store import connect

CANARIES = ("canary-name", "+15550100099", SECRET)


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


def test_canaries_are_found_in_no_message_log_event_status_report_or_process_list() -> None:
    faults = [
        {"match": "POST *", "when": {"every": 6}, "times": 3, "kind": "5xx_before"},
        {"match": "POST *", "when": {"business_ids": ["r7.1"]}, "kind": "400"},
        {"match": "POST *", "when": {"business_ids": ["r9.1"]}, "kind": "bad_json"},
    ]
    with Fleet(broker=True, sandbox={"faults": faults}) as fleet:
        seen: list[str] = []
        broker = f"redis://127.0.0.1:{fleet.broker_port}/1"
        watching = threading.Thread(target=watch, args=(broker, seen), daemon=True)
        watching.start()
        until(lambda: seen, what="the first command at the broker")
        fleet.submit(rows())
        fleet.start_worker("w1", env={"HEADGATE_WORKER__EVENTS": "true"})
        fleet.wait()
        token = fleet.client.tokens.get()
        assert token is not None
        canaries = (*CANARIES, token.value.get_secret_value())

        places = {
            "broker": "\n".join(seen + [decoded(it) for it in seen]),
            "log": fleet.log("w1"),
            "arguments": processes(),
            "ledger": json.dumps(fleet.transactions()),
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
