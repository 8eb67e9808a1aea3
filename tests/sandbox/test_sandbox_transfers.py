"""The host of the signed URLs: whom it turns away, and how it takes a large file."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

if TYPE_CHECKING:
    from orchestration.sandbox import SandboxProcess

Ask = Callable[[], dict[str, Any]]
Wait = Callable[[Callable[[], object]], None]

TOKEN = "secret-token"
LARGE = 256 << 20


@pytest.fixture
def ask(sandbox: SandboxProcess, http: requests.Session) -> Ask:
    """A function that asks for a signed URL for one prompt."""
    prompts = f"{sandbox.url}/api/v2/architect/prompts"
    prompt = http.post(prompts, json={"name": "hello"}, timeout=10).json()["id"]
    resources = f"{prompts}/{prompt}/resources"
    http.post(resources, json={"language": "en-us"}, timeout=10)

    def issue() -> dict[str, Any]:
        issued: dict[str, Any] = http.post(f"{resources}/en-us/uploads", timeout=10).json()
        return issued

    return issue


def put(issued: dict[str, Any], data: object = b"sound", **headers: str) -> requests.Response:
    sent = {**issued["headers"], **headers}
    return requests.put(issued["url"], data, headers=sent, timeout=60)  # type: ignore[arg-type]


def files(sandbox: SandboxProcess) -> int:
    count: int = sandbox.get("report")["transfers"]["files"]
    return count


def test_a_url_that_is_expired_is_refused_and_a_new_one_is_good(
    sandbox: SandboxProcess, ask: Ask
) -> None:
    old = ask()
    sandbox.post("clock", {"advance_s": 600})
    late = put(old)
    sandbox.post("config", {"url_lifetime_s": 3600})
    new = ask()
    sandbox.post("clock", {"advance_s": 600})

    assert (late.status_code, "expired" in late.text) == (403, True)
    assert late.headers["Content-Type"] == "application/xml"
    assert (files(sandbox), put(new).status_code, files(sandbox)) == (0, 200, 1)


def test_urls_expire_at_once_on_command(sandbox: SandboxProcess, ask: Ask) -> None:
    old = ask()
    sandbox.post("expire")

    assert [put(old).status_code, put(ask()).status_code] == [403, 200]


@pytest.mark.parametrize("name", ["Content-Type", "x-amz-meta-upload"])
@pytest.mark.parametrize("value", [None, "other"])
def test_a_header_that_is_missing_or_wrong_is_refused(
    sandbox: SandboxProcess, ask: Ask, name: str, value: str | None
) -> None:
    issued = ask()
    headers = {key: text for key, text in issued["headers"].items() if key != name}
    if value:
        headers[name] = value

    refused = put({**issued, "headers": headers})

    assert (refused.status_code, "SignatureDoesNotMatch" in refused.text) == (403, True)
    assert files(sandbox) == 0


@pytest.mark.parametrize("part", ["slot", "issue", "expires", "signed", "signature", "en-us"])
def test_a_url_that_was_changed_is_refused(sandbox: SandboxProcess, ask: Ask, part: str) -> None:
    issued = ask()
    issued["url"] = issued["url"].replace(part, f"{part}x", 1)

    assert (put(issued).status_code, files(sandbox)) == (403, 0)


def test_the_headers_of_one_url_are_not_good_for_another(sandbox: SandboxProcess, ask: Ask) -> None:
    first, second = ask(), ask()

    assert put({**first, "headers": second["headers"]}).status_code == 403
    assert files(sandbox) == 0


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
def test_credentials_of_the_api_are_refused_and_the_journal_tells_of_them_without_them(
    sandbox: SandboxProcess, ask: Ask, header: str
) -> None:
    refused = put(ask(), **{header: f"Bearer {TOKEN}"})

    assert (refused.status_code, "InvalidArgument" in refused.text) == (400, True)
    assert sandbox.get("report")["transfers"]["leaks"] == 1
    last = sandbox.get("requests")[-1]
    assert (last["kind"], last["host"]) == ("leak", "transfers")
    assert TOKEN not in str(last)
    assert files(sandbox) == 0


def test_only_a_put_of_a_known_size_is_taken(sandbox: SandboxProcess, ask: Ask) -> None:
    issued = ask()
    post = requests.post(issued["url"], b"sound", headers=issued["headers"], timeout=10)
    unsized = put(issued, iter([b"so", b"und"]))

    assert (post.status_code, unsized.status_code, files(sandbox)) == (405, 411, 0)


def test_a_transfer_is_no_call_of_the_api(sandbox: SandboxProcess, ask: Ask) -> None:
    limit = {"name": "l", "count": 1, "window_s": 3600, "shape": "fixed_window"}
    sandbox.post("config", {"limits": [limit]})
    issued = ask()
    before = sandbox.get("report")

    statuses = [put(issued).status_code for _ in range(3)]

    report = sandbox.get("report")
    assert statuses == [200] * 3
    names = ("requests", "by_status", "per_second", "windows")
    assert [report[name] for name in names] == [before[name] for name in names]
    assert report["transfers"]["requests"] == 3


def _pieces() -> Iterator[bytes]:
    piece = bytes(1 << 20)
    for _ in range(LARGE >> 20):
        yield piece


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (row for row in status.splitlines() if row.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_large_file_is_counted_and_hashed_without_being_held(
    sandbox: SandboxProcess, ask: Ask
) -> None:
    before, issued = _resident_bytes(sandbox.pid), ask()
    # Pieces under a known size, so that this process does not hold the file either.
    session = requests.Session()
    request = requests.Request("PUT", issued["url"], issued["headers"], data=_pieces()).prepare()
    del request.headers["Transfer-Encoding"]
    request.headers["Content-Length"] = str(LARGE)

    assert session.send(request, timeout=60).status_code == 200

    md5 = hashlib.md5(usedforsecurity=False)
    for piece in _pieces():
        md5.update(piece)
    last = sandbox.get("effects")[-1]
    assert (last["size"], last["md5"]) == (LARGE, md5.hexdigest())
    assert _resident_bytes(sandbox.pid) - before < LARGE / 8


def test_a_transfer_that_breaks_off_stores_nothing(
    sandbox: SandboxProcess, ask: Ask, wait_until: Wait
) -> None:
    issued = ask()
    url = urlsplit(issued["url"])
    headers = {"Host": url.netloc, "Content-Length": "1000", **issued["headers"]}
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((url.hostname, url.port), timeout=10) as half:
        half.sendall(f"{head}\r\nhalf".encode())

    def newest() -> Any:
        return sandbox.get("requests")[-1]

    wait_until(lambda: newest().get("host", ""))
    assert (newest()["status"], newest()["size"], files(sandbox)) == (0, 4, 0)


@pytest.mark.parametrize(
    ("kind", "status", "stored"),
    [("5xx_before", 503, 0), ("5xx_after", 500, 1), ("drop_before", 0, 0), ("drop_after", 0, 1)],
)
def test_a_fault_hits_transfers_only_where_it_names_them(
    sandbox: SandboxProcess, ask: Ask, kind: str, status: int, stored: int
) -> None:
    issued = ask()
    sandbox.post("faults", [{"kind": "5xx_before"}])
    unnamed = put(issued, b"unnamed").status_code
    sandbox.post("reset")
    sandbox.post("faults", [])
    assert unnamed == 200
    assert put(issued).status_code == 403  # a reset forgets what was given out

    sandbox.post("config", {"auth": False})
    prompts = f"{sandbox.url}/api/v2/architect/prompts"
    prompt = requests.post(prompts, json={"name": "hello"}, timeout=10).json()["id"]
    resources = f"{prompts}/{prompt}/resources"
    requests.post(resources, json={"language": "en-us"}, timeout=10)
    issued = requests.post(f"{resources}/en-us/uploads", timeout=10).json()
    sandbox.post("faults", [{"kind": kind, "match": "PUT /transfers/*", "times": 1}])
    if status:
        assert put(issued).status_code == status
    else:
        with pytest.raises(requests.ConnectionError):
            put(issued)

    assert files(sandbox) == stored
    assert put(issued).status_code == 200
    assert sandbox.get("report")["by_fault"] == {kind: 1}
