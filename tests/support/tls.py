"""A certificate for tests, and a TLS front to the sandbox that takes its time to shake hands."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def make_certificate(
    path: Path, address: str = "127.0.0.1", *, valid_days: tuple[int, int] = (-1, 1)
) -> Path:
    """A self-signed certificate for an address and its key, in one file.

    Args:
        path: The file.
        address: Whose it is.
        valid_days: From when until when it is valid, in days from now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + dt.timedelta(days=valid_days[0]))
        .not_valid_after(now + dt.timedelta(days=valid_days[1]))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    path.write_bytes(cert.public_bytes(pem) + key.private_bytes(pem, pkcs8, plain))
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    """A server that shows the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@contextmanager
def slow_front(url: str, certificate: Path, handshake_s: float = 0.2) -> Iterator[str]:
    """The https URL of a process before `url` that needs `handshake_s` for each handshake."""
    command = [sys.executable, "-m", "tests.support.tls", str(urlsplit(url).port), str(certificate)]
    command.append(str(handshake_s))
    front = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert front.stdout is not None
    try:
        yield f"https://127.0.0.1:{int(front.stdout.readline())}"
    finally:
        front.terminate()
        front.wait(timeout=10)
        front.stdout.close()


async def _serve(target_port: int, certificate: Path, handshake_s: float) -> None:
    loop, context = asyncio.get_running_loop(), server_context(certificate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.setblocking(False)  # noqa: FBT003 -- the name says it
    print(listener.getsockname()[1], flush=True)

    async def take(taken: socket.socket) -> None:
        await asyncio.sleep(handshake_s)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        with suppress(OSError):
            front, _ = await loop.connect_accepted_socket(lambda: protocol, taken, ssl=context)
            writer = asyncio.StreamWriter(front, protocol, reader, loop)
            back, forth = await asyncio.open_connection("127.0.0.1", target_port)
            await asyncio.gather(_copy(reader, forth), _copy(back, writer))

    tasks = set()
    while True:
        taken, _ = await loop.sock_accept(listener)
        tasks.add(task := loop.create_task(take(taken)))
        task.add_done_callback(tasks.discard)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
