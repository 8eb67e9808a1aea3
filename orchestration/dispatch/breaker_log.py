"""What a worker logs of the breakers of its clients: what is held, and what may leave again."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orchestration.views.scopes import public_scope
from workers.governor import flows
from workers.governor.failures import failures
from workers.governor.state import GovernorState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.clients import Client
    from workers.governor.failures import Failure

#: Seconds between two looks at which breakers are open, while as many are open as before.
LOOK_S: Final = 1.0

_logger = logging.getLogger(__name__)


class BreakerLog:
    """Logs once when a breaker opens, widens to its client, or ends."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, Failure]] = {}  #: client → scope → as logged last
        self._counts: dict[str, int] = {}  #: client → how many were open then
        self._due_s: dict[str, float] = {}  #: client → when it is looked at again

    def note(self, client: Client, count: int) -> None:
        """Log what has changed; `count` breakers of the client are open."""
        before = self._open.get(client.name, {})
        is_due = time.monotonic() >= self._due_s.get(client.name, 0.0)
        is_same = count == self._counts.get(client.name, 0)
        if not (count or before) or (is_same and not is_due):
            return
        self._counts[client.name] = count
        self._due_s[client.name] = time.monotonic() + LOOK_S
        state = GovernorState.read(client.store, client.keys)
        spans = flows.spans(client.store, client.keys)
        now = {
            failure.scope: failure
            for failure in failures(client.store, client.keys, state, spans)
            if failure.probe_us is not None
        }
        self._open[client.name] = now
        for sentence in _list_changes(before, now):
            _logger.warning("client %s: %s", client.name, sentence)


def _list_changes(before: Mapping[str, Failure], now: Mapping[str, Failure]) -> Iterator[str]:
    """What begins to hold, and what holds no longer; one sentence each."""
    for scope in before.keys() - now.keys():
        if "client" in now:
            yield f"the hold of {public_scope(scope)} covers the whole client now"
        else:
            calls = "its calls" if scope == "client" else f"calls of {public_scope(scope)}"
            yield f"{calls} leave again"
    for scope in now.keys() - before.keys():
        yield replace(now[scope], scope=public_scope(scope)).sentence
