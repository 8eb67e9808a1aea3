"""Where a URL of an answer may lead; every refusal names the host and nothing else of the URL."""

from __future__ import annotations

import hashlib
import re
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from workers.http.connection import ConnectFailed
from workers.http.destination import Destination, NotAllowed, find_destination, is_public
from workers.http.transfer import File, Transfers
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: As a name is looked up at first, and as it is looked up again.
Answers = list[list[str]]
#: An address that is public; nobody calls it in tests.
PUBLIC = "192.88.98.1"


def a_client(base_url: str = "https://api.example.com", *hosts: str) -> ClientSettings:
    return ClientSettings(
        name="acme", base_url=base_url, upload_hosts=hosts, connect_timeout_s=0.2, read_timeout_s=1
    )


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (["files.example.net"], "https://files.example.net/x?s=canary"),
        (["files.example.net"], "https://FILES.example.net./x?s=canary"),
        (["files.example.net"], "https://files.example.net:8443/x?s=canary"),
        (["*.example.net"], "https://files.example.net/x?s=canary"),
        (["*.example.net"], "https://eu.files.example.net/x?s=canary"),
        (["a.example", "*.example.net"], "https://a_b.example.net/x?s=canary"),
        ([], "https://api.example.com/x?s=canary"),
    ],
)
def test_a_signed_url_may_lead_to_the_hosts_that_are_listed_and_to_the_clients_own(
    hosts: list[str], url: str
) -> None:
    found = find_destination(url, a_client("https://api.example.com", *hosts))

    assert found.origin.startswith("https://")
    assert found.path == "/x?s=canary"
    assert found.is_own is (not hosts)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x?s=canary",
        "https://example.net/x?s=canary",
        "https://evilexample.net/x?s=canary",
        "https://files.example.net.evil.example/x?s=canary",
        "https://files.example.net@evil.example/x?s=canary",
        "https://canary:canary@files.example.net/x?s=canary",
        "https://evil.example\\.example.net/x?s=canary",
        "https://evil.example%2f.example.net/x?s=canary",
        "https://evil.example\u3002example.net/x?s=canary",
        "https://[::1].example.net/x?s=canary",
        "https://files.example.net:canary/x",
        "https://127.0.0.1/x?s=canary",
        "https://127.1/x?s=canary",
        "https://2130706433/x?s=canary",
        "https://[::ffff:127.0.0.1]/x?s=canary",
        "https://localhost/x?s=canary",
        "https:///x?s=canary",
        "//files.example.net/x?s=canary",
        "http://files.example.net/x?s=canary",
        "http://api.example.com/x?s=canary",
        "ftp://files.example.net/x?s=canary",
        "file:///etc/passwd?s=canary",
    ],
)
def test_no_other_url_is_used_and_no_text_holds_it(url: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        find_destination(url, a_client("https://api.example.com", "*.example.net"))

    assert "canary" not in str(refused.value)


def test_a_refusal_names_the_host_the_client_and_the_setting() -> None:
    with pytest.raises(NotAllowed) as refused:
        find_destination("https://files.example.org/x", a_client())

    assert str(refused.value) == (
        "its host files.example.org is none of upload_hosts of client acme; add it there if it is "
        "your provider's"
    )


@pytest.mark.parametrize("own", ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"])
def test_a_sandbox_on_loopback_may_have_its_files_on_another_port_of_loopback(own: str) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        found = find_destination(f"http://{host}:81/x", a_client(own))
        assert found == Destination(f"http://{host}:81", "/x", is_own=True)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "2001:db8::1",
        "2001:0:0:0:0:0:80ff:fffe", "::127.0.0.1", "192.88.99.1", "3fff::1",
        "2001:4860::5efe:10.0.0.1", "2a00:1450:4001:81b:200:5efe:7f00:1", "2001:4860::5efe:8.8.8.8",
    ],
)  # fmt: skip
def test_no_address_of_an_inner_network_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", PUBLIC, "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_other_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody on loopback to whom no file may go."""
    with closing(socket.create_server(("127.0.0.1", 0))) as opened:
        opened.settimeout(0)
        yield opened


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], None]:
    """Let each name have these addresses, one list after the other, the last one for good."""
    real = socket.getaddrinfo

    def use(answers: Answers) -> None:
        left = [*answers]

        def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if re.fullmatch(r"[0-9.]+|.*:.*", str(host)):
                return real(host, port, *args, **kwargs)
            found = left.pop(0) if len(left) > 1 else left[0]
            return [entry for address in found for entry in real(address, port, *args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return use


@pytest.fixture
def file(tmp_path: Path) -> File:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    return File(path, 5, hashlib.md5(b"sound").hexdigest())  # noqa: S324 -- as stores of files do


def was_called(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    "inner", ["127.0.0.1", "10.9.8.7", "169.254.169.254", "::1", "::ffff:127.0.0.1"]
)
def test_no_file_goes_to_an_inner_address_behind_a_host_that_is_listed(
    file: File, listener: socket.socket, resolve: Callable[[Answers], None], inner: str
) -> None:
    resolve([[inner]])
    url = f"https://files.example.net:{listener.getsockname()[1]}/x?s=canary"

    with pytest.raises(NotAllowed) as refused:
        Transfers(a_client("https://api.example.com", "*.example.net"), 1).put(
            url, {}, file, lambda: True
        )

    assert str(refused.value) == "its host files.example.net has no public address"
    assert not was_called(listener)


def test_a_name_that_changes_its_address_after_the_check_leads_no_file_to_it(
    file: File, resolve: Callable[[Answers], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve([[PUBLIC, "127.0.0.1"], ["127.0.0.1"]])
    called: list[object] = []

    def refuse(place: object, *_: object, **__: object) -> Any:
        called.append(place)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("workers.http.destination.create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    url = "https://files.example.net/x?s=canary"

    with pytest.raises(ConnectFailed) as failed:
        Transfers(a_client("https://api.example.com", "files.example.net"), 1).put(
            url, {}, file, lambda: True
        )

    assert "canary" not in str(failed.value)
    assert called == [(PUBLIC, 443)]


def test_a_host_that_is_not_known_is_no_refusal_for_good(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    with pytest.raises(ConnectFailed, match="the name is not known"):
        Transfers(a_client("https://api.example.com", "files.example.net"), 1).put(
            "https://files.example.net/x", {}, file, lambda: True
        )
