"""One try to deliver a notice: by a command of this machine, or by a signed request."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from workers.errors import ConfigError, HeadgateError, NotNow
from workers.http.route import ConnectFailed
from workers.http.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.notify.events import Notice
    from workers.settings.notify import NotifySettings

#: Seconds that a command may take.
LIMIT_S: Final = 10.0
#: Variables that a command gets from its worker. Every other one may hold a secret.
PASSED_ON: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
#: And the variable in which it finds the event's name.
VARIABLE: Final = "HEADGATE_EVENT"


class Undelivered(Exception):
    """The notice was not taken; the text says why in a few words, without secrets."""


class Delivery(Protocol):
    """A way to deliver notices."""

    def deliver(self, notice: Notice) -> None:
        """Try once; raises `Undelivered`."""

    def check(self) -> None:
        """Make sure that the receiver is there, without a notice; raises `HeadgateError`."""

    def cancel(self) -> None:
        """End a try that is under way, and let none begin."""


@contextmanager
def one_try() -> Iterator[None]:
    """Make whatever fails within `Undelivered`, so that its tries are counted, and have a bound.

    What is wrong with the configuration stays the error that it is.
    """
    try:
        yield
    except (Undelivered, HeadgateError):
        raise
    except Exception as error:
        # No text of it, which may hold a secret.
        raise Undelivered(f"the try failed ({type(error).__name__})") from error


def open_delivery(settings: NotifySettings, *, show: bool = False) -> Delivery:
    """The configured way.

    Args:
        settings: Which way it is.
        show: Whether what the command prints is shown.

    Raises:
        ConfigError: URL, secret or certificates cannot be used.
    """
    return OverUrl(settings) if settings.url else ByCommand(settings.argv, show=show)


class ByCommand:
    """Runs a command, without a shell: the document on stdin, the event in `HEADGATE_EVENT`.

    It succeeds when it ends with 0 within `LIMIT_S`. A later one is killed, with what it started.
    """

    def __init__(self, argv: tuple[str, ...], *, show: bool = False) -> None:
        self._argv = argv
        self._output = None if show else subprocess.DEVNULL
        self._running: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()

    def deliver(self, notice: Notice) -> None:
        """Run it once; raises `Undelivered`."""
        try:
            running = self._start(notice)
        except (OSError, ValueError) as error:  # a word that the system cannot take is a ValueError
            why = getattr(error, "strerror", None) or "no program can be given its words"
            raise Undelivered(f"the command cannot be started ({why})") from None
        try:
            running.communicate(notice.document.encode(), LIMIT_S)
        except subprocess.TimeoutExpired:
            self._kill(running)
            raise Undelivered(f"the command did not end within {LIMIT_S:g} s") from None
        finally:
            self._running = None
        if running.returncode:
            raise Undelivered(f"the command ended with exit code {running.returncode}")

    def check(self) -> None:
        """Make sure that the program is there; raises `ConfigError`."""
        if shutil.which(self._argv[0]) is None:
            raise ConfigError(
                f"notify: the program {self._argv[0]} is not there, or may not be executed; "
                f"correct command"
            )

    def cancel(self) -> None:
        """Kill it if it runs."""
        with self._lock:
            self._is_cancelled = True
            if running := self._running:
                self._kill(running)

    def _start(self, notice: Notice) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        with self._lock:
            if self._is_cancelled:
                raise Undelivered("this worker stops")
            self._running = subprocess.Popen(  # noqa: S603 -- the user's command, without a shell
                self._argv,
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                env={**environment, VARIABLE: notice.event},
                start_new_session=True,
            )
        return self._running

    def _kill(self, running: subprocess.Popen[bytes]) -> None:
        """Kill the process and its group, which it leads until it is waited for."""
        if running.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


class OverUrl:
    """Sends the document to a URL, signed."""

    def __init__(self, settings: NotifySettings) -> None:
        self._host = settings.host
        self._webhook = Webhook(settings)

    def deliver(self, notice: Notice) -> None:
        """Send it once; raises `Undelivered`."""
        try:
            problem = self._webhook.post(notice.id, notice.document.encode())
        except HeadgateError as error:
            raise Undelivered(str(error).removeprefix("client notify: ")) from None
        if problem:
            raise Undelivered(f"{self._host} {problem}")

    def check(self) -> None:
        """Connect, and send nothing; raises `NotNow`."""
        try:
            self._webhook.connect()
        except ConnectFailed as error:
            raise NotNow(str(error).removeprefix("client ")) from None

    def cancel(self) -> None:
        """Nothing: a request ends with its process, and within its time limit."""
