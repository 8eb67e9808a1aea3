"""A file to a signed URL: what is refused before it, and told without the URL."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import tracemalloc
from pathlib import Path

import pytest

from workers.http.connection import ConnectFailed
from workers.http.transfer import (
    READ_BYTES,
    SEND_BYTES,
    File,
    NotThatFile,
    Sent,
    TakenOver,
    Transfers,
    _Body,
)
from workers.settings.client import ClientSettings

SECRET = "signature=canary"


@pytest.fixture
def file(tmp_path: Path) -> File:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound" * 200_000)
    return File(path, 1_000_000, hashlib.md5(path.read_bytes()).hexdigest())  # noqa: S324


def transfers(base_url: str = "http://127.0.0.1:9", read_timeout_s: float = 0.3) -> Transfers:
    return Transfers(
        ClientSettings(name="acme", base_url=base_url, read_timeout_s=read_timeout_s), 1
    )


def put(it: Transfers, url: str, file: File, headers: dict[str, str] | None = None) -> Sent:
    return it.put(url, headers or {}, file, lambda: True)


@pytest.mark.parametrize(
    ("base_url", "url", "headers"),
    [
        ("https://provider", f"http://files/x?{SECRET}", {}),
        ("http://files", f"ftp://files/x?{SECRET}", {}),
        ("http://files", f"http://files/x y?{SECRET}", {}),
        ("http://files", f"http://files/x?{SECRET}", {"X-A": "canary\r\nX-B: 1"}),
    ],
)
def test_a_url_or_header_that_cannot_be_sent_is_refused_and_not_told(
    file: File, base_url: str, url: str, headers: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"must|https|line break") as refused:
        put(transfers(base_url), url, file, headers)

    assert "canary" not in str(refused.value)


def test_a_host_that_is_not_there_is_told_without_the_url(file: File) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(ConnectFailed) as failed:
        put(transfers(), f"http://127.0.0.1:{port}/x?{SECRET}", file)

    assert f"127.0.0.1:{port}" in str(failed.value)
    assert "canary" not in str(failed.value)


class Host:
    """Takes one connection, reads so many bytes, says what it is told to."""

    def __init__(self, reads: int, says: bytes = b"") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/x?{SECRET}"
        self.got = b""
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=[reads, says], daemon=True)
        self._thread.start()

    def _serve(self, reads: int, says: bytes) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            while len(self.got) < reads and (piece := connection.recv(65_536)):
                self.got += piece
            if says:
                connection.sendall(says)
            self.done.wait(5)


def test_exactly_the_given_headers_and_the_length_go_along(file: File) -> None:
    host = Host(1_000_000, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    sent = put(transfers(), host.url, file, {"x-amz-meta-a": "1", "Content-Type": "audio/wav"})

    host.done.set()
    head, _, body = host.got.partition(b"\r\n\r\n")
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert sent == Sent(200, "", "", whole=True)
    assert b"Content-Length: 1000000" in head
    assert names == {
        b"host", b"user-agent", b"accept-encoding", b"connection", b"x-amz-meta-a",
        b"content-type", b"content-length",
    }  # fmt: skip
    assert file.path.read_bytes().startswith(body)


def test_a_host_that_takes_nothing_more_ends_the_transfer_which_surely_was_not_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large.wav"
    with path.open("wb") as opened:
        opened.truncate(50_000_000)
    large = File(path, 50_000_000, "")
    host = Host(1000)

    sent = put(transfers(), host.url, large)

    host.done.set()
    assert sent == Sent(None, "", "write timeout", whole=False)


def test_a_host_that_answers_nothing_may_have_taken_it(file: File) -> None:
    host = Host(1_000_000)

    sent = put(transfers(), host.url, file)

    host.done.set()
    assert sent == Sent(None, "", "read timeout", whole=True)


def test_the_last_bytes_of_a_file_that_has_changed_never_leave(file: File) -> None:
    host = Host(2_000_000)
    file.path.write_bytes(b"noise" * 200_000)

    with pytest.raises(NotThatFile, match="has changed"):
        put(transfers(), host.url, file)

    host.done.set()
    assert len(host.got) < 1_000_000


def test_the_last_bytes_of_a_file_that_grows_while_it_is_sent_never_leave(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives whole would take effect, and the row would say that it failed."""
    monkeypatch.setattr("workers.http.transfer.RENEW_EVERY_S", -1.0)  # at each part
    host = Host(2_000_000)

    def grow() -> bool:
        with file.path.open("ab") as opened:
            opened.write(b"more" * 100_000)
        return True

    with pytest.raises(NotThatFile, match="has changed"):
        transfers().put(host.url, {}, file, grow)

    host.done.set()
    assert len(host.got.partition(b"\r\n\r\n")[2]) < file.size


def test_a_pipe_in_place_of_the_file_holds_no_thread(file: File) -> None:
    file.path.unlink()
    os.mkfifo(file.path)

    with pytest.raises(NotThatFile, match="not a regular file"):
        put(transfers(), "http://127.0.0.1:9/x", file)


@pytest.mark.parametrize("part", ["file", "folder", "folder above"])
def test_a_link_that_came_after_the_check_leads_no_file_out(tmp_path: Path, part: str) -> None:
    """Who may write to a folder of media puts a link where the file was found, or above it."""
    place, elsewhere = tmp_path / "media/prompts/a.wav", tmp_path / "elsewhere/prompts/a.wav"
    for path in (place, elsewhere):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"secret")
    found = Path(os.path.realpath(place))
    taken = {"file": place, "folder": place.parent, "folder above": place.parent.parent}[part]
    taken.rename(tmp_path / "old")
    taken.symlink_to(tmp_path / "elsewhere" / taken.relative_to(tmp_path / "media"))

    with pytest.raises(NotThatFile, match="cannot be read"):
        put(
            transfers(),
            "http://127.0.0.1:9/x",
            File(found, 6, hashlib.md5(b"secret").hexdigest()),  # noqa: S324
        )


def test_the_lease_is_prolonged_at_least_with_each_record_however_slow_the_host_is(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.http.transfer.RENEW_EVERY_S", -1.0)  # whenever it is looked at
    host, renewed = Host(1_000_000, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), []

    transfers().put(host.url, {}, file, lambda: not renewed.append(1))  # type: ignore[func-returns-value]

    host.done.set()
    assert len(renewed) >= file.size // SEND_BYTES


def test_a_transfer_ends_when_its_lease_is_lost(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.http.transfer.RENEW_EVERY_S", -1.0)  # at each piece
    host = Host(2_000_000)

    with pytest.raises(TakenOver):
        transfers().put(host.url, {}, file, lambda: False)

    host.done.set()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_the_host_of_files_is_not_followed(file: File, status: int) -> None:
    elsewhere = Host(1)
    answer = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n"
    host = Host(1_000_000, answer.encode())

    sent = put(transfers(), host.url, file)

    host.done.set()
    elsewhere.done.set()
    assert sent == Sent(status, "", "", whole=True)
    assert elsewhere.got == b""


def test_a_file_of_any_size_is_sent_from_little_memory(tmp_path: Path) -> None:
    size, path = 20 * READ_BYTES, tmp_path / "large.wav"
    path.write_bytes(bytes(size))
    large = File(path, size, hashlib.md5(bytes(size)).hexdigest())  # noqa: S324
    tracemalloc.start()
    with path.open("rb", buffering=0) as opened:
        sent = sum(len(part) for part in _Body(opened, large, lambda: True))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sent == size
    assert most < 4 * READ_BYTES
