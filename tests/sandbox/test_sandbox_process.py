"""The process, its control API and its journal on disk."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import requests

import orchestration.sandbox
from orchestration.sandbox import SandboxProcess
from orchestration.sandbox import __main__ as sandbox_main
from orchestration.sandbox.config import Config, InvalidConfig
from orchestration.sandbox.journal import Journal, JournalEntry, build_report
from orchestration.sandbox.provider import Provider

LIMIT = {"name": "l", "count": 3, "window_s": 3600, "per": "endpoint"}


def work(sandbox: SandboxProcess) -> None:
    """Make calls of every kind: effects, repeats, duplicates, refusals, faults, tokens."""
    url, session = sandbox.url, requests.Session()
    form = {"grant_type": "client_credentials"}
    answer = session.post(f"{url}/oauth/token", form, auth=("demo", "demo-secret"), timeout=10)
    session.get(f"{url}/things", timeout=10)
    session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    sandbox.post("faults", [{"kind": "5xx_after", "match": "PUT *", "times": 1}])
    for key in ("k-1", "k-1", "k-2", "k-3"):
        headers = {"Idempotency-Key": key}
        session.put(f"{url}/things", json={"business_id": "ü"}, headers=headers, timeout=10)
    for phone in ("1", "1", "2"):
        contacts = [{"id": f"c-{n}", "contactListId": "l", "data": {"p": phone}} for n in range(3)]
        lists = f"{url}/api/v2/outbound/contactlists"
        session.post(f"{lists}/l/contacts", json=contacts, timeout=10)


def test_a_sandbox_that_was_killed_reports_every_request_that_it_had_answered(
    tmp_path: Path,
) -> None:
    file = tmp_path / "journal.jsonl"

    with SandboxProcess({"limits": [LIMIT]}, journal=file) as sandbox:
        work(sandbox)
        online = sandbox.get("report")
        os.kill(sandbox.pid, signal.SIGKILL)
    with SandboxProcess({"limits": [LIMIT]}, journal=file) as sandbox:
        assert sandbox.get("report") == online

    expected = {"requests": 8, "effects": 8, "updates": 3, "repeats": 3, "replays": 1}
    expected |= {"refused_429": 1, "duplicates": 4, "several_keys": 1}
    assert online.items() >= expected.items()
    assert online["several_keys_list"] == [["PUT", "/things", "ü", 2]]


def test_a_journal_goes_on_in_its_file_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    entry = JournalEntry(1, "demo", "POST", "/things", "k", 201, "effect", created=("a",))
    journal = Journal(file)
    journal.add(entry)
    journal.close()
    with file.open("a") as torn:
        torn.write('{"t_us": 2, "cli')

    journal = Journal(file)
    survived = build_report(journal.entries, (), {})
    journal.add(entry._replace(t_us=3))

    assert survived["effects"] == 1
    report = build_report(journal.entries, (), {})
    assert build_report(Journal(file).entries, (), {}) == report
    assert report["duplicates"] == 1


def test_an_answer_is_on_disk_before_it_leaves(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with SandboxProcess({"auth": False}, journal=file) as sandbox:
        for number in range(50):
            requests.post(f"{sandbox.url}/things", json={"business_id": number}, timeout=10)
            assert len(file.read_text().splitlines()) == number + 1


def test_effects_and_requests_are_paged_without_gap_or_overlap() -> None:
    journal = Journal(None)
    for index in range(4):
        names = tuple(f"{index}-{n}" for n in range(index))
        journal.add(JournalEntry(index, "demo", "POST", "/x", "k", 200, "effect", created=names))
    whole = journal.effects(0, 100)

    for size in (1, 2, 4, 100):
        pages = [journal.effects(after, size) for after in range(0, 7, size)]
        assert [effect for page in pages for effect in page] == whole
    assert [effect["seq"] for effect in whole] == [1, 2, 3, 4, 5, 6]
    assert [entry["seq"] for entry in journal.requests(1, 2)] == [2, 3]


def test_reset_clears_journal_keys_and_limits_but_not_tokens(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"limits": [{"name": "l", "count": 1, "window_s": 3600}]})

    def status() -> int:
        headers = {"Idempotency-Key": "k"}
        return http.post(f"{sandbox.url}/things", headers=headers, timeout=10).status_code

    before = [status(), status()]
    sandbox.post("reset")

    assert (before, status()) == ([201, 429], 201)
    assert sandbox.get("report")["by_kind"] == {"effect": 1}


def test_latency_is_spread_around_its_median_and_repeats_after_a_reset() -> None:
    config = Config(latency_ms=80, latency_sigma=0.6, seed=3)
    provider = Provider(config, Journal(None))

    def latencies_s() -> list[float]:
        provider.reset()
        return [provider.draw_latency_s() for _ in range(999)]

    first, repeated = latencies_s(), latencies_s()
    provider.apply(dataclasses.replace(config, seed=4))

    assert first == repeated != latencies_s()
    assert statistics.median(first) == pytest.approx(0.08, rel=0.1)
    assert statistics.stdev(map(math.log, first)) == pytest.approx(0.6, rel=0.1)


def test_a_change_of_another_field_leaves_the_limits_as_full_as_they_are(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"limits": [{"name": "l", "count": 1, "window_s": 3600}]})
    http.get(f"{sandbox.url}/things", timeout=10)

    sandbox.post("config", {"rate_headers": "inin"})

    assert http.get(f"{sandbox.url}/things", timeout=10).status_code == 429


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"latency": 5}, "unknown fields ['latency']"),
        ({"latency_ms": "5"}, "config.latency_ms"),
        ({"auth": 1}, "config.auth"),
        ({"limits": [{"name": "l", "count": 1}]}, "config.limits[0]"),
        ({"limits": [{"name": "l", "count": 0, "window_s": 1}]}, "count"),
        ({"limits": [LIMIT, LIMIT]}, "['l']"),
        ({"limits": [{**LIMIT, "shape": "square"}]}, "config.limits[0].shape"),
        ({"limits": [{**LIMIT, "other_share": 1}]}, "other_share"),
        (
            {"limits": [{**LIMIT, "shape": "concurrent", "count_refused": True}]},
            "config.limits[0]: limit 'l': concurrent",
        ),
        ({"faults": [{"kind": "429", "when": {"each": 2}}]}, "config.faults[0].when"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(raw: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        Config.from_json(raw)

    assert named in str(refusal.value)


def test_a_wrong_secret_is_not_repeated_by_the_refusal() -> None:
    with pytest.raises(InvalidConfig) as refusal:
        Config.from_json({"clients": {"demo": 424242}})

    assert "424242" not in str(refusal.value)
    assert "demo-secret" not in repr(Config())


def test_the_control_api_refuses_what_it_does_not_know(sandbox: SandboxProcess) -> None:
    wrong = [("rest", None), ("config", {"x": 1}), ("clock", {"advance_s": -1})]
    wrong += [("storm", {"seconds": 1, "share": 2}), ("storm", {"retry_after": 1})]
    refusal = r"control call|unknown fields|only moves ahead|share in 0\.\.1|storm lacks"
    for name, body in wrong:
        with pytest.raises(ValueError, match=refusal):
            sandbox.post(name, body)

    assert "demo-secret" not in json.dumps(sandbox.get("config"))


def test_sigterm_ends_the_sandbox_with_status_0_and_a_wrong_config_with_status_2() -> None:
    sandbox = SandboxProcess()
    assert sandbox.stop() == 0

    command = [sys.executable, "-m", "orchestration.sandbox", "--port=0", '--config={"x": 1}']
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert (wrong.returncode, "unknown fields" in wrong.stderr) == (2, True)


def test_the_sandbox_ends_with_its_parent() -> None:
    child = "from orchestration.sandbox import SandboxProcess; import time; "
    child += "s = SandboxProcess(); print(s.url, flush=True); time.sleep(60)"
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, "-c", child], stdout=pipe, stderr=pipe, text=True)
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    requests.get(url, timeout=10)  # it is there

    parent.kill()
    parent.communicate(timeout=10)  # ends when the sandbox, too, has closed its stderr

    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


def test_the_sandbox_imports_nothing_else_of_the_product() -> None:
    folder = Path(orchestration.sandbox.__file__).parent
    allowed = {*sys.stdlib_module_names, "tornado"}
    strangers: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            strangers.update(
                name
                for name in names
                if not name.startswith("orchestration.sandbox")
                and name.partition(".")[0] not in allowed
            )

    assert strangers == set()


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "99999"),
        ("--port", "-1"),
        ("--port", "9" * 5000),
        ("--port", "0", "--transfer-port", "65536"),
        ("--port", "0", "--parent", "9" * 30),
        ("--port", "0", "--parent", "-1"),
        ("--port", "0", "--host", "h" * 300),
        ("--port", "0", "--host", "h\udcff"),
        ("--port", "0", "--config", '{"limits":' * 20_000),
        ("--port", "0", "--config", '{"latency_ms": 1e400}'),
        ("--port", "0", "--config", f'{{"latency_ms": {"9" * 400}}}'),
        ("--port", "0", "--config", f'{{"latency_ms": {"9" * 5000}}}'),
        ("--port", "0", "--config", '{"seed": "\\ud800"}'),
        ("--port", "0", "--config", "."),
        ("--port", "0", "--config", "{no_text}"),
        ("--port", "0", "--journal", "."),
    ],
    ids=lambda options: " ".join(options)[:40],
)
def test_an_option_that_cannot_be_used_is_a_sentence_and_status_2(
    options: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox_main, "_start_servers", lambda *_: pytest.fail("it has started"))
    (tmp_path / "no_text").write_bytes(b"{\xff}")
    given = [option.replace("{no_text}", str(tmp_path / "no_text")) for option in options]

    try:
        status: object = sandbox_main.serve(given)
    except SystemExit as ended:
        status = ended.code

    assert status == 2
    printed = capsys.readouterr()
    assert printed.err
    assert not printed.out
