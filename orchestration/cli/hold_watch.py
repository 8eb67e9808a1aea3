"""Says when something begins to hold the client of a job that is watched, changes, and ends."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from orchestration.text import escape_controls
from orchestration.views.holds import Hold, holds
from workers.errors import STORE_FAILS
from workers.governor import flows
from workers.governor.failures import failures
from workers.governor.state import GovernorState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestration.views.progress import Progress
    from workers.clients import Client
    from workers.governor.failures import Failure

#: A pause of fewer seconds than this, when it is first seen, is not worth a line.
SHORT_S: Final = 3.0


class HoldWatch:
    """Prints one line for what holds the client of a job: when it begins, changes and ends."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._shown: dict[tuple[str, ...], str] = {}  #: what holds → its scope

    def report(self, looks: Iterable[Progress]) -> Iterator[Progress]:
        """Pass the looks on; print what has changed since the one before."""
        for look in looks:
            if look.state == "running":
                with suppress(*STORE_FAILS):  # the next look at the job says so
                    self._look()
            yield look

    def _look(self) -> None:
        state = GovernorState.read(self._client.store, self._client.keys)
        spans = flows.spans(self._client.store, self._client.keys)
        failing = failures(self._client.store, self._client.keys, state, spans)
        every: list[Failure | Hold] = [*failing, *holds(state, spans)]
        current = {_key(one): one for one in every}
        scopes = {key[1] for key in current}
        ended = {scope for key, scope in self._shown.items() if key not in current}
        self._shown = {key: scope for key, scope in self._shown.items() if key in current}
        for scope in sorted(ended):
            if scope not in scopes and "client" not in scopes:
                self._print(f"{'its calls' if scope == 'client' else f'calls of {scope}'} go on")
        for key, one in current.items():
            is_short = isinstance(one, Hold) and one.left_s < SHORT_S
            if key not in self._shown and not is_short:
                self._shown[key] = one.scope
                self._print(one.sentence)

    def _print(self, sentence: str) -> None:
        text = escape_controls(f"client {self._client.name}: {sentence}")
        click.echo(f"headgate: {text}", err=True)


def _key(one: Failure | Hold) -> tuple[str, ...]:
    """What makes it another one than before: all but how long it lasts."""
    if isinstance(one, Hold):
        return "paused", one.scope, one.why
    return one.cause if one.probe_us is not None else "answered badly", one.scope
