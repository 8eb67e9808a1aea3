"""`make audit` passes only when each locked package was asked about, and the answers tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AUDIT = ROOT / ".ci/audit"
#: As uv writes it: one package for another system, one without a marker.
LOCK = """\
amqp==5.4.2 \\
    --hash=sha256:00 \\
    --hash=sha256:01
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:02
"""
#: What pip-audit says where all is well: the lock, and the version that is known to be weak.
AMQP = {"name": "amqp", "version": "5.4.2", "vulns": []}
COLORAMA = {"name": "colorama", "version": "0.4.6", "vulns": []}
WEAK = {"id": "PYSEC-2018-66", "fix_versions": ["0.12.3"], "aliases": ["CVE-2018-1000656"]}
CONTROL = {"name": "flask", "version": "0.5", "vulns": [WEAK]}


def _audit(folder: Path, lock: str = LOCK, **environment: str) -> subprocess.CompletedProcess[str]:
    file = folder / "requirements.lock"
    file.write_text(lock, "utf-8")
    return subprocess.run(
        [sys.executable, AUDIT, file],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _audit_told(
    folder: Path, *packages: dict[str, Any], status: int = 1, lock: str = LOCK
) -> subprocess.CompletedProcess[str]:
    """An audit whose pip-audit tells of these packages; 1 is its status for what is weak."""
    told = json.dumps({"dependencies": packages, "fixes": []})
    program = f"import sys\nprint({told!r})\nsys.exit({status})\n"
    return _audit(folder, lock, **_stand_in(folder, program))


def _stand_in(folder: Path, program: str) -> dict[str, str]:
    """The environment in which this program stands for pip-audit."""
    package = folder / "pip_audit"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program, "utf-8")
    return {"PYTHONPATH": str(folder)}


def test_an_audit_of_every_locked_package_passes_and_says_how_many_they_were(
    tmp_path: Path,
) -> None:
    done = _audit_told(tmp_path, CONTROL, AMQP, COLORAMA)

    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{tmp_path}/requirements.lock: 2 of 2 locked packages audited, no weakness is known\n"
    )


def test_a_package_that_was_skipped_fails_the_audit_by_its_name(tmp_path: Path) -> None:
    skipped = {"name": "colorama", "skip_reason": "not found"}

    done = _audit_told(tmp_path, CONTROL, AMQP, skipped)

    assert done.returncode == 2
    assert "1 of 2 locked packages" in done.stderr
    assert "NOT AUDITED" in done.stderr
    assert "colorama 0.4.6" in done.stderr


def test_another_version_than_the_locked_one_is_no_audit_of_it(tmp_path: Path) -> None:
    done = _audit_told(tmp_path, CONTROL, AMQP, {**COLORAMA, "version": "0.4.5"})

    assert done.returncode == 2
    assert "colorama 0.4.6" in done.stderr


def test_a_service_that_knows_no_weakness_of_a_weak_version_audits_nothing(tmp_path: Path) -> None:
    done = _audit_told(tmp_path, {**CONTROL, "vulns": []}, AMQP, COLORAMA, status=0)

    assert done.returncode == 2
    assert "NOT AUDITED" in done.stderr
    assert "flask 0.5" in done.stderr


@pytest.mark.parametrize("status", [0, 2])
def test_an_answer_that_its_own_status_contradicts_is_no_audit(tmp_path: Path, status: int) -> None:
    done = _audit_told(tmp_path, CONTROL, AMQP, COLORAMA, status=status)

    assert done.returncode == 2
    assert "NOT AUDITED" in done.stderr


def test_a_weakness_fails_the_audit_and_is_named_with_its_package_and_remedy(
    tmp_path: Path,
) -> None:
    weakness = {"id": "PYSEC-2026-1", "fix_versions": ["5.4.3"], "aliases": ["CVE-2026-1"]}

    done = _audit_told(tmp_path, CONTROL, {**AMQP, "vulns": [weakness]}, COLORAMA)

    assert done.returncode == 1
    assert "amqp 5.4.2: PYSEC-2026-1 (CVE-2026-1), fixed in 5.4.3" in done.stderr


def test_a_weakness_without_a_remedy_fails_the_audit_too(tmp_path: Path) -> None:
    weakness = {"id": "PYSEC-2026-1", "fix_versions": [], "aliases": []}

    done = _audit_told(tmp_path, CONTROL, {**AMQP, "vulns": [weakness]}, COLORAMA)

    assert done.returncode == 1
    assert "amqp 5.4.2: PYSEC-2026-1, not fixed yet" in done.stderr


@pytest.mark.parametrize(
    "lock", ["", "# nothing\n", "amqp>=5\n", "amqp @ git+https://example.org/amqp\n", "-r other\n"]
)
def test_a_lock_that_pins_nothing_or_something_else_is_not_audited(
    tmp_path: Path, lock: str
) -> None:
    done = _audit_told(tmp_path, CONTROL, lock=lock)

    assert done.returncode == 2
    assert "NOT AUDITED" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lock_that_is_not_there_is_not_audited(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, AUDIT, tmp_path / "none.lock"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "NOT AUDITED" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def _advisories(answers: dict[str, Any]) -> Iterator[dict[str, str]]:
    """A service of the form of OSV on loopback; package → what it answers, else nothing known."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers.get(asked["package"]["name"], {})
            self.send_response(503 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/v1/query"
            yield {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url}
        finally:
            server.shutdown()


def _vuln(package: str, name: str) -> dict[str, Any]:
    place = {"package": {"name": package, "ecosystem": "PyPI"}, "ranges": []}
    return {"vulns": [{"id": name, "affected": [place]}]}


def test_the_real_tool_asks_about_every_package_also_of_other_systems(tmp_path: Path) -> None:
    weak = {"flask": _vuln("flask", "PYSEC-2018-66"), "colorama": _vuln("colorama", "OSV-1")}
    with _advisories(weak) as service:
        done = _audit(tmp_path, **service)

    assert done.returncode == 1
    assert "colorama 0.4.6: OSV-1" in done.stderr


def test_the_real_tool_passes_where_nothing_but_the_control_is_weak(tmp_path: Path) -> None:
    with _advisories({"flask": _vuln("flask", "PYSEC-2018-66")}) as service:
        done = _audit(tmp_path, **service)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("answers", [{}, {"flask": None}], ids=["knows nothing", "is broken"])
def test_a_service_that_answers_without_an_audit_is_never_clean(
    tmp_path: Path, answers: dict[str, Any]
) -> None:
    with _advisories(answers) as service:
        done = _audit(tmp_path, **service)

    assert done.returncode == 2
    assert "NOT AUDITED" in done.stderr
    assert done.stdout == ""


def test_without_reach_to_the_service_nothing_is_audited(tmp_path: Path) -> None:
    with _advisories({}) as service:
        pass  # its port is closed from here on

    done = _audit(tmp_path, **service)

    assert done.returncode == 2
    assert "NOT AUDITED" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_without_a_name_it_audits_both_locks_whole(tmp_path: Path) -> None:
    program = (
        "import json, pathlib, sys\n"
        "pins = pathlib.Path(sys.argv[sys.argv.index('--requirement') + 1]).read_text().split()\n"
        "told = [dict(zip(('name', 'version'), pin.split('=='))) for pin in pins]\n"
        f"weak = {[WEAK]!r}\n"
        "told = [{**one, 'vulns': weak if one['name'] == 'flask' else []} for one in told]\n"
        "print(json.dumps({'dependencies': told}))\n"
        "sys.exit(1)\n"
    )

    done = subprocess.run(
        [sys.executable, AUDIT],
        env={**os.environ, **_stand_in(tmp_path, program)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    for name in ("requirements.lock", "compose/requirements.lock"):
        # What is locked stands at the beginning of a line; its hashes are indented.
        lines = (ROOT / name).read_text("utf-8").splitlines()
        count = sum(line[:1].isalnum() for line in lines)
        assert f"{name}: {count} of {count} locked packages audited" in done.stdout
