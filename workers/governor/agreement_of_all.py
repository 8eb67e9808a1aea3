"""The agreement on the limits of many clients at once: a few round trips, whatever their number.

What is agreed of one client, and why, is `workers.governor.agreement`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from workers.errors import HeadgateError
from workers.governor import agreement, flows, overrides
from workers.store.many import AT_ONCE, ask_many, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.governor.agreement import Party, Standing
    from workers.governor.overrides import Agreement, Overrides
    from workers.settings.client import ClientSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys
    from workers.store.many import ManyScripts

#: Clients whose flows are read and written in one round trip; each may have hundreds.
WRITTEN_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class _Decision:
    """What changes of a client."""

    live: Overrides  #: what holds until then
    changes: Sequence[Agreement]
    now: ClientSettings  #: with the limits that hold afterwards


class AgreementOfAll:
    """Lets the proposals hold that count now, for many clients.

    Args:
        store: The store.
        run: Their scripts.
        stand: Looks whose proposals count; see `agreement.change_by`.
        party_of: Who decides for a client of this name.
    """

    def __init__(
        self,
        store: Store,
        run: ManyScripts,
        stand: Callable[[], Standing],
        party_of: Callable[[str], Party],
    ) -> None:
        self._store = store
        self._run = run
        self._stand = stand
        self._party_of = party_of

    def reach(self, clients: Mapping[ClientKeys, ClientSettings]) -> dict[ClientKeys, Exception]:
        """Write what changes; returns the clients of which there is no agreement, and why.

        One of these stops no other one, unless the store is away.
        """
        errors: dict[ClientKeys, Exception] = {}
        left = dict(clients)
        try:
            for some in chunks(clients, AT_ONCE):
                errors |= self._reach({keys: clients[keys] for keys in some})
                for keys in some:
                    del left[keys]
        except HeadgateError as error:
            errors |= dict.fromkeys(left, error)
        return errors

    def _reach(self, clients: Mapping[ClientKeys, ClientSettings]) -> dict[ClientKeys, Exception]:
        errors: dict[ClientKeys, Exception] = {}
        left = dict(clients)
        while left:  # until nobody else comes between the look and the scripts
            decisions = self._decide(left, errors)
            left = {}
            for some in chunks(decisions, WRITTEN_AT_ONCE):
                answers = self._write({keys: decisions[keys] for keys in some}, errors)
                left |= {keys: clients[keys] for keys, written in answers.items() if not written}
        return errors

    def _decide(
        self, clients: Mapping[ClientKeys, ClientSettings], errors: dict[ClientKeys, Exception]
    ) -> dict[ClientKeys, _Decision]:
        """What changes, of the clients of which anything does; adds to the errors."""
        stored = ask_many(self._store, (("HGETALL", keys.overrides) for keys in clients))
        standing = self._stand()  # after the versions of what holds were read
        decisions = {}
        for (keys, client), reply in zip(clients.items(), stored, strict=True):
            try:
                live = overrides.from_hash(keys, _require(reply))
                party = self._party_of(client.name)
                changes = agreement.change_by(party, client, lambda: standing)(live)
                if changes:
                    decisions[keys] = _Decision(live, changes, live.changed(changes).over(client))
            except Exception as error:  # noqa: BLE001 -- what is stored may be damaged in any way
                errors[keys] = error
        return decisions

    def _write(
        self, decisions: Mapping[ClientKeys, _Decision], errors: dict[ClientKeys, Exception]
    ) -> dict[ClientKeys, bool]:
        """Write decisions; returns whether each still held then, but for those with an error."""
        stored = ask_many(self._store, (("HGETALL", keys.flows) for keys in decisions))
        calls = {}
        for (keys, decision), reply in zip(decisions.items(), stored, strict=True):
            try:
                known = _require(reply)
                calls[keys] = flows.applying(decision.live, decision.changes, decision.now, known)
            except Exception as error:  # noqa: BLE001 -- as above
                errors[keys] = error
        answers = self._run("apply_limits", calls)
        errors |= {keys: reply for keys, reply in answers.items() if isinstance(reply, Exception)}
        return {keys: bool(reply) for keys, reply in answers.items() if keys not in errors}


def _require(reply: Any) -> dict[str, str]:  # noqa: ANN401 -- the store's
    """The hash that was read; raises why it was not."""
    if isinstance(reply, HeadgateError):
        raise reply
    stored: dict[str, str] = reply
    return stored
