"""`headgate flower`: Flower behind a login."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from ast import literal_eval
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import click

from orchestration.cli import options
from orchestration.views.links import require_broker
from workers.clients import use_settings
from workers.errors import ConfigError, HeadgateError, UsageError
from workers.settings.load import load
from workers.settings.redis_url import is_loopback
from workers.settings.small_file import read_small_file

if TYPE_CHECKING:
    from pathlib import Path

    from workers.settings.load import Settings

#: The file in `store.data_dir` that keeps a password that was made.
LOGIN_FILE: Final = "flower_password"
#: Nothing bounds how often somebody tries, so that a password must be too long to be guessed.
SHORTEST: Final = 15


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5555,
    show_default=True,
    help="Port to listen on.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; beyond this machine only with a password of your own.",
)
@options.configured
def command(port: int, host: str) -> None:
    """Show workers and tasks in Flower, behind a login, to look at only.

    The user is flower.user, and the password that of flower.password_file or flower.password_env.
    Without one the command makes a password, keeps it in the data folder, and shows it once, on a
    terminal. Flower's own options may be set as FLOWER_ variables, or in a file that FLOWER_CONF
    names. With FLOWER_READ_ONLY=false, Flower may revoke tasks. It needs the broker; the store only
    for what changes workers.

    \b
    Example:  headgate flower --port 5555
    Exit:     0 asked to stop, 1 no broker or no such address, 2 wrong configuration or usage
    """
    settings = options.settings()
    login = f"{settings.flower.user}:{_read_password(settings, host)}"

    from flower.options import default_options as chosen

    from workers.app import app

    use_settings(partial(load, options.config_file()))
    require_broker(settings.store)  # Flower needs no store
    _require_free(host, port)
    os.environ.setdefault("FLOWER_READ_ONLY", "true")
    # By itself Flower runs flowerconfig.py of the current folder, whoever put it there.
    os.environ.setdefault("FLOWER_CONF", os.devnull)
    # The login is set here: everybody on this machine may read arguments and environment.
    chosen.basic_auth = [login]
    chosen.format_task = format_task
    from orchestration.cli.flower_pages import guard_pages

    guard_pages(app.conf.worker_log_format)
    click.echo(f"headgate: Flower at http://{host}:{port}, user {settings.flower.user}", err=True)
    app.start(["--quiet", "flower", f"--address={host}", f"--port={port}", "--logging=warning"])


class FlowerTask(Protocol):
    """Flower's copy of one of Celery's tasks, as far as it is formatted here."""

    args: str
    result: str | None
    exception: str | None


def format_task(task: FlowerTask) -> FlowerTask:
    """Show a task in words: its arguments, and as its result also why it has none.

    Flower cuts off what is long, so the key stands last. A task of another application is left as
    it is.
    """
    with suppress(SyntaxError, TypeError, ValueError):
        client, key, step = literal_eval(task.args)
        task.args = f"{client} step {step} {key}"
        if task.result:
            task.result = literal_eval(task.result)
        elif task.exception:  # a bell that counts down is received again at once, with its reason
            retry = re.fullmatch(r"Retry\(Retry\(\.\.\.\), (.*), ([0-9.]+)\)", task.exception)
            task.result = f"{retry[1]}; in {float(retry[2]):.1f} s" if retry else task.exception
    return task


def _read_password(settings: Settings, host: str) -> str:
    """The password that was set; else, for this machine alone, the one that is kept or made."""
    given = settings.flower.password()
    if given is not None:
        if not given.get_secret_value().isascii():
            raise ConfigError("flower: the password may hold ASCII characters only; choose another")
        if len(given.get_secret_value()) < SHORTEST:
            raise ConfigError(
                f"flower: the password has fewer than {SHORTEST} characters; choose a longer one"
            )
        return given.get_secret_value()
    if not is_loopback(host):
        raise UsageError(
            f"--host {host} can be reached from elsewhere, so the login needs a password of your "
            f"own; set flower.password_file"
        )
    return _keep_password(settings.store.data_dir.expanduser() / LOGIN_FILE)


def _keep_password(file: Path) -> str:
    """The password in this file; makes one when there is none."""
    try:
        with suppress(FileNotFoundError):
            if kept := read_small_file(file).strip():
                return kept
        password = secrets.token_urlsafe(18)
        file.parent.mkdir(parents=True, exist_ok=True)
        # The file is made anew, so that nobody has opened it before it was only ours.
        file.unlink(missing_ok=True)
        with open(file, "x", encoding="utf-8", opener=_open_for_us) as written:
            written.write(password + "\n")
    except OSError as error:
        raise ConfigError(
            f"the password of Flower cannot be kept in {file} ({error.strerror}); set "
            f"flower.password_file"
        ) from None
    # Where standard error is no terminal it is a log, which must not hold the password.
    shown = password if sys.stderr.isatty() else f"in {file}"
    click.echo(f"headgate: a password was made for Flower: {shown}", err=True)
    return password


def _open_for_us(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _require_free(host: str, port: int) -> None:
    """Say in one sentence what Flower would say in a traceback."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise HeadgateError(
            f"Flower cannot listen on {host}:{port} ({error.strerror}); choose another --port or "
            f"--host"
        ) from None
