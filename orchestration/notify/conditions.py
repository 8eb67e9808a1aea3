"""What is so just now of a client or a worker, and may become a notice. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from orchestration.notify.events import PATIENCE_S, EventType, Notice
from orchestration.notify.outbox import Name
from orchestration.text import format_count
from orchestration.views.holds import holds
from orchestration.views.progress import iso
from orchestration.views.scopes import public_scope
from workers.governor import flows
from workers.governor.failures import failures
from workers.governor.state import GovernorState
from workers.store.reading import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.clients import Client
    from workers.governor.registry import Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that is so; its notice is due when it has lasted."""

    event: EventType  #: of its notice
    subject: tuple[str, ...]  #: client and scope, client, or worker: which one it is
    what: str  #: the sentence up to "since"
    then: str = ""  #: and what follows
    since_us: int | None = None  #: None: since somebody saw it first
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> Name:
        """Its name among all that is watched."""
        return Name(self.event, self.subject)

    @property
    def patience_us(self) -> int:
        """How long it must last."""
        return round(PATIENCE_S.get(self.event, 0.0) * 1e6)

    def notice(self, since_us: int) -> Notice:
        """What is told of it."""
        since = iso(since_us)
        text = f"{self.what} since {since}{self.then}"
        subject = tuple(map(public_scope, self.subject))  # who knows a hash can guess its words
        return Notice.of(self.event, subject, since_us, text, since=since, **self.data)

    @classmethod
    def outage(cls, client: str, scope: str, since_us: int) -> Self:
        """A breaker that is open because calls fail."""
        return cls(
            event=EventType.OUTAGE_BEGAN,
            subject=(client, scope),
            what=f"{name_scope(client, scope)} {_has(scope)} been failing",
            then=", and nothing but probes leaves",
            since_us=since_us,
            data={"client": client, "scope": public_scope(scope)},
        )


def name_scope(client: str, scope: str) -> str:
    """What a hold holds, as the subject of a sentence."""
    if scope == "client":
        return f"client {client}"
    return f"client {client}: calls of {public_scope(scope)}"


def _has(scope: str) -> str:
    return "has" if scope == "client" else "have"


def conditions_of(
    client: Client, governor: Mapping[str, str], dead_letters: int, now_us: int
) -> Iterator[Condition]:
    """What is so of a client.

    Args:
        client: The client.
        governor: The hash of its governor.
        dead_letters: How many it has.
        now_us: When both were read.

    Raises:
        StoreAway: the store gives no answer.
    """
    if dead_letters:
        yield Condition(
            event=EventType.DEAD_LETTER,
            subject=(client.name,),
            what=f"client {client.name} has had dead letters",
            then=f", {dead_letters:,} of them now: see `headgate dead list {client.name}`",
            data={"client": client.name, "dead_letters": dead_letters},
        )
    state = GovernorState(governor, now_us)
    full_at = (number_of(value) for name, value in governor.items() if name.startswith("c:"))
    if state.open_breakers or any(moment > now_us for moment in full_at):
        yield from _holds(client, state)


def _holds(client: Client, state: GovernorState) -> Iterator[Condition]:
    spans = flows.spans(client.store, client.keys)
    opened = state.open_breakers and failures(client.store, client.keys, state, spans)
    causes: dict[str, tuple[str, int | None]] = {}  #: scope → why it is held, and until when
    for hold in holds(state, spans):
        causes[hold.scope] = "pause", None if hold.endless else hold.until_us
    for failure in opened or ():
        if failure.probe_us is None:
            continue
        causes.setdefault(failure.scope, (failure.cause, None))
        if failure.cause == "failing":
            yield Condition.outage(client.name, failure.scope, failure.since_us)
    for scope, (cause, until_us) in causes.items():
        until = until_us and iso(until_us)
        yield Condition(
            event=EventType.HOLD_LASTS,
            subject=(client.name, scope),
            what=f"{name_scope(client.name, scope)} {_has(scope)} been held",
            then=": `headgate status` says why",
            data={
                "client": client.name,
                "scope": public_scope(scope),
                "cause": cause,
                "until": until,
            },
        )


def conditions_of_workers(look: Look) -> Iterator[Condition]:
    """What is so of the workers that live, and of those that cannot."""
    for process in look.live.values():
        clients = sorted(process.obstacles)
        if not process.works:
            what, clients = "been unable to work", []
        elif process.takes_none:
            what, clients = "taken no bells", []
        elif clients:
            more = f" and {format_count(len(clients) - 1, 'other')}" if clients[1:] else ""
            what = f"made no calls of client {clients[0]}{more}"
        elif process.trouble:  # it lives between two ends, so that they are one condition
            what = "been in trouble"
        else:
            continue
        yield Condition(
            event=EventType.WORKER_HINDERED,
            subject=(process.id,),
            what=f"worker {process.title} has {what}",
            then=": `headgate status` says why",
            data={"worker": process.title, "clients": clients},
        )
