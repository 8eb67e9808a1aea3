"""The users of the containers' servers, as compose/ has them, on servers of a test."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from tests.conftest import start_server
from tests.support.fleet import ROOT
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.store.connection import Store

Role = Literal["store", "broker"]  #: of a server
#: The users of each server that somebody can be.
USERS: Final[dict[Role, tuple[str, ...]]] = {
    "store": ("admin", "headgate"),
    "broker": ("admin", "broker", "flower"),
}
#: Redis knows it since 7.2.
LATE: Final = "+client|setinfo"


def lines(role: Role) -> dict[str, list[str]]:
    """User → its rules."""
    text = (ROOT / f"compose/{role}_users").read_text()
    return {name: rules for _, name, *rules in map(str.split, text.splitlines())}


def rules_of(
    user: str, server: Store, role: Role = "store", *, namespace: str = "headgate"
) -> list[str]:
    """What the file gives a user, in a namespace; the user's password is its name."""
    password = f"#{hashlib.sha256(user.encode()).hexdigest()}"
    knows_late = bool(server.ask("COMMAND", "INFO", LATE[1:])[0])
    given = [password if it.startswith("#@") else it for it in lines(role)[user]]
    given = [it.replace("headgate", namespace) if it[0] in "~&%" else it for it in given]
    return [it for it in given if it != LATE or knows_late]


def add_users(server: Store, role: Role = "store") -> None:
    """Give a server all users of its file but the default one, which stays as it is."""
    for user in USERS[role]:
        server.execute_command("ACL", "SETUSER", user, "reset", *rules_of(user, server, role))


@contextmanager
def serve(folder: Path, role: Role = "store") -> Iterator[Store]:
    """A server with these users, as somebody who may do everything."""
    process, url = start_server(folder, "--appendfsync", "always")
    with connect(url) as store:
        add_users(store, role)
        yield store
    process.terminate()
    process.wait(timeout=10)


def url_as(user: str, port: int) -> str:
    """The URL of a server for one of its users."""
    return f"redis://{user}:{user}@127.0.0.1:{port}/0"


def settings_as(
    port: int, broker_port: int, *, ledger: str = "headgate", broker: str = "broker"
) -> dict[str, str]:
    """The variables of a process that is these two users, each on its server."""
    values = {
        "URL": url_as(ledger, port),
        "BROKER_URL": url_as(broker, broker_port),
        "DURABLE": "always",
    }
    return {f"HEADGATE_STORE__{name}": value for name, value in values.items()}


def refused(server: Store) -> list[dict[str, str]]:
    """What the server refused its users: the entries of ACL LOG, each the first of its kind."""
    log = server.execute_command("ACL", "LOG")
    entries = [dict(zip(it[::2], it[1::2], strict=True)) for it in log]
    return [{key: entry[key] for key in ("username", "reason", "object")} for entry in entries]
