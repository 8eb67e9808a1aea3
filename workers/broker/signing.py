"""Signatures of control commands: who may change a worker, and that each is taken once.

The key derives from the installation's secret, which lies in the store and never on the broker.
"""

from __future__ import annotations

import hmac
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from kombu.utils.json import dumps
from pydantic import BaseModel, ConfigDict

from workers.errors import HeadgateError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Commands that change nothing, and under which names Celery has them too. `heartbeat` asks for one
#: event; whoever listens to events sends it first, such as a Flower that has no store.
READS: Final = frozenset(
    {
        "active", "active_queues", "clock", "conf", "heartbeat", "ping", "query_task", "registered",
        "report", "reserved", "revoked", "scheduled", "stats", "dump_active", "dump_conf",
        "dump_reserved", "dump_revoked", "dump_schedule", "dump_tasks",
    }
)  # fmt: skip
#: The argument of a command that holds its signature: moment, nonce and digest.
SIGNATURE: Final = "headgate_signature"
#: Seconds for which a signature holds: clocks differ, and a broadcast takes a moment.
WINDOW_S: Final = 30.0
#: Seconds between two tries to read a secret that could not be read.
REST_S: Final = 10.0


class NotObeyed(Exception):
    """Why a command is not obeyed, one sentence."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _ReplyTo(_Part):
    exchange: str
    routing_key: str


class ControlCommand(_Part):
    """One command as it is broadcast; anybody may have written it."""

    method: str
    arguments: dict[str, Any] | None = None
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    reply_to: _ReplyTo | None = None

    @property
    def is_open(self) -> bool:
        """Whether anybody may send it: a read, of nodes by their names.

        A pattern can be written so that matching it takes for ever.
        """
        return self.method in READS and self.pattern is None and self.matcher is None

    def to_text(self) -> str:
        """What a signature covers."""
        arguments = {k: v for k, v in (self.arguments or {}).items() if k != SIGNATURE}
        where = [self.destination, self.pattern, self.matcher, self.ticket]
        text: str = dumps([self.method, arguments, *where], sort_keys=True)  # type: ignore[no-untyped-call]
        return text


class Signer:
    """Signs commands, and checks signatures; each is taken once.

    Args:
        read_secret: Reads the installation's secret; may raise `HeadgateError`.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, read_secret: Callable[[], bytes], clock: Callable[[], float] = time.time
    ) -> None:
        self._read_secret = read_secret
        self._clock = clock
        # A signature from before would be one that this process may have taken in its last life.
        self._started_s = clock()
        self._taken: dict[str, float] = {}  #: nonce → until when its signature would hold
        self._key = b""
        self._not_before_s = 0.0

    def sign(self, command: ControlCommand) -> list[str]:
        """The signature of a command, to be sent at once.

        Raises:
            HeadgateError: the secret cannot be read.
        """
        moment, nonce = repr(self._clock()), secrets.token_hex(16)
        return [moment, nonce, self._digest(self._find_key(), command, moment, nonce)]

    def require_signed(self, command: ControlCommand) -> None:
        """Take a command's signature.

        Raises:
            NotObeyed: it has none that is ours, now, and for the first time.
        """
        match (command.arguments or {}).get(SIGNATURE):
            case [str(moment), str(nonce), str(digest)]:
                pass
            case _:
                raise NotObeyed("it is not signed by this installation")
        now_s = self._clock()
        if now_s < self._not_before_s:
            raise NotObeyed("the secret of this installation cannot be read")
        try:
            key = self._find_key()
        except HeadgateError as error:
            self._not_before_s = now_s + REST_S
            raise NotObeyed(f"the secret of this installation cannot be read: {error}") from None
        expected = self._digest(key, command, moment, nonce)
        if not hmac.compare_digest(expected.encode(), digest.encode("utf-8", "replace")):
            raise NotObeyed("it is not signed by this installation")
        signed_s = float(moment)
        if signed_s < self._started_s or abs(now_s - signed_s) > WINDOW_S:
            raise NotObeyed("it was signed at another time, or the clocks of the machines differ")
        self._taken = {known: until for known, until in self._taken.items() if until >= now_s}
        if nonce in self._taken:
            raise NotObeyed("it was sent before")
        self._taken[nonce] = signed_s + WINDOW_S

    def _find_key(self) -> bytes:
        if not self._key:
            self._key = hmac.digest(self._read_secret(), b"remote control", "sha256")
        return self._key

    @staticmethod
    def _digest(key: bytes, command: ControlCommand, moment: str, nonce: str) -> str:
        text = dumps([moment, nonce, command.to_text()])  # type: ignore[no-untyped-call]
        return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()
