"""Remote control: a command that changes a worker is obeyed only if this installation signed it.

Whoever is on the broker can broadcast `shutdown` or `cancel_consumer`. So the sender adds a
signature to the arguments of each command that is no plain read, and the worker checks it, see
`workers.broker.signing`. Reads are open to all, so that Flower shows workers without the store.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from celery.app.control import Control
from click import ClickException
from kombu import pidbox
from kombu.exceptions import OperationalError
from pydantic import ValidationError
from typing_extensions import override

from workers.broker.signing import SIGNATURE, ControlCommand, NotObeyed, Signer
from workers.errors import HeadgateError, NotNow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery
    from kombu.message import Message

#: Seconds between two warnings of what is not obeyed: there may be thousands of it.
REST_S: Final = 10.0

logger = logging.getLogger(__name__)


class CannotSign(NotNow, OperationalError, ClickException):
    """A command cannot be signed: Flower knows this error of kombu's, Celery's commands click's."""


class GuardedNode(pidbox.Node):
    """A worker's mailbox that obeys reads, and what this installation signed."""

    mailbox: SignedMailbox
    hostname: str
    _quiet_until_s = 0.0

    @override
    def handle_message(self, body: object, message: Message | None = None) -> Any:
        try:
            command = ControlCommand.model_validate(body)
        except ValidationError:
            return self._warn("a broadcast is no control message")
        if command.destination and self.hostname not in command.destination:
            return None
        reply_to = command.reply_to
        if reply_to and reply_to.exchange != self.mailbox.reply_exchange.name:  # type: ignore[union-attr]  # it is set
            return self._warn("a control message wants its answer elsewhere")
        if not command.is_open:
            try:
                self.mailbox.signer.require_signed(command)
            except NotObeyed as why:
                return self._refuse(command, str(why))
        else:
            message = None  # which has a clock that a stranger may have set
        plain = command.model_dump()
        plain["arguments"] = {
            name: value for name, value in (command.arguments or {}).items() if name != SIGNATURE
        }
        return super().handle_message(plain, message)  # type: ignore[no-untyped-call]

    @override
    def handle(self, method: str, arguments: Mapping[str, Any] | None = None) -> Any:
        try:
            return super().handle(method, arguments)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 -- the arguments may be anything
            self._warn(f"control command {method!r} failed ({type(error).__name__})")
            return {"error": f"{type(error).__name__}: {error}"}

    def _refuse(self, command: ControlCommand, why: str) -> None:
        self._warn(f"control command {command.method[:64]!r} is not obeyed: {why}")
        if command.reply_to and command.pattern is None:
            self.reply(  # type: ignore[no-untyped-call]
                {self.hostname: {"error": f"not obeyed: {why}"}},
                exchange=command.reply_to.exchange,
                routing_key=command.reply_to.routing_key,
                ticket=command.ticket,
            )

    def _warn(self, text: str) -> None:
        """Log what a stranger sent, once in a while: there may be thousands of it."""
        if time.monotonic() >= self._quiet_until_s:
            self._quiet_until_s = time.monotonic() + REST_S
            logger.warning("%s", text)


class SignedMailbox(pidbox.Mailbox):
    """Kombu's mailbox, whose sender signs and whose nodes check."""

    node_cls = GuardedNode
    signer: Signer

    @override
    def _publish(  # type: ignore[override]  # kombu gives the rest by name
        self, method: str, arguments: dict[str, Any], destination: Any = None, **options: Any
    ) -> None:
        command = ControlCommand(
            method=method,
            arguments=arguments,
            destination=destination and list(destination),
            pattern=options.get("pattern"),
            matcher=options.get("matcher"),
            ticket=options.get("reply_ticket"),
        )
        if not command.is_open:
            try:
                arguments = {**arguments, SIGNATURE: self.signer.sign(command)}
            except HeadgateError as error:
                raise CannotSign(f"{method} cannot be signed: {error}") from None
        super()._publish(method, arguments, destination, **options)  # type: ignore[no-untyped-call]


def signed_control(read_secret: Callable[[], bytes]) -> type[Control]:
    """The `control` of a Celery application whose commands are signed; see `Signer`."""

    class SignedControl(Control):  # type: ignore[misc]  # Celery ships no types
        Mailbox = SignedMailbox

        def __init__(self, app: Celery | None = None) -> None:
            super().__init__(app)
            self.mailbox.signer = Signer(read_secret)

    return SignedControl
