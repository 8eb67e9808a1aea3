"""What fails at a provider just now: open breakers, and scopes with only bad answers of late."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from workers.clock import format_clock
from workers.store.hashes import read_hashes
from workers.store.reading import is_number, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.governor.state import GovernorState
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys


#: The scope of answers of 401, see lua/includes/evidence.lua.
SCOPE_OF_401: Final = "token:"
#: How the names begin under which it has answers of 429, see lua/includes/own_refusals.lua.
REFUSED: Final = "429:"
#: A scope without an open breaker fails when its answers were bad for so long.
BAD_FOR_US: Final = 5_000_000
#: Seconds after which a probe that was due and did not go has nobody to be it.
NOBODY_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Calls of a scope fail, or are refused."""

    scope: str  #: "client", the name of a limit, or a route: method and path
    cause: Literal["failing", "throttled"]
    since_us: int
    why: str  #: one sentence
    seen_us: int  #: when this was so
    #: When the next probe may go; None: no breaker is open, each of its rows goes on.
    probe_us: int | None

    @property
    def sentence(self) -> str:
        """What people are told, with times of this host."""
        of_client = self.scope == "client"
        who = "the provider" if of_client else self.scope
        since = format_clock(self.since_us, self.seen_us)
        text = f"{who} has been failing since {since}"
        if self.cause == "throttled":
            text = f"{who} has refused most calls since {since}"
        if self.probe_us is not None:
            left_s = (self.probe_us - self.seen_us) / 1e6
            if left_s >= -NOBODY_S:
                text += f", next probe {f'in {left_s:.0f} s' if left_s >= 1 else 'now'}"
            else:  # nothing waits that could be one, and the hold stays until something is sent
                text += ", the next call will be the probe"
        return f"{text}: {self.why}" if self.why else text


def failures(
    store: Store,
    keys: ClientKeys,
    state: GovernorState,
    spans: Mapping[str, tuple[str, int]],
) -> list[Failure]:
    """What fails just now, what has failed the longest first.

    While the breaker of the client is open it covers all scopes, and is the only one.

    Args:
        store: The store.
        keys: The client's names.
        state: The governor's.
        spans: As `flows.spans`.

    Raises:
        StoreAway: the store gives no answer.
    """
    opened = state.open_breakers
    names_of_hashes = [keys.evidence, *(keys.breaker(scope) for scope in opened)]
    evidence, *breakers = read_hashes(store, names_of_hashes)
    names = {SCOPE_OF_401: "client"} | {bucket: name for bucket, (name, _) in spans.items()}
    every = [
        Failure(
            scope=names.get(scope, scope),
            cause="throttled" if breaker.get("cause") == "throttled" else "failing",
            since_us=number_of(breaker.get("opened_us", ""), state.now_us),
            why=breaker.get("why", ""),
            seen_us=state.now_us,
            probe_us=probe_us,
        )
        for (scope, probe_us), breaker in zip(opened.items(), breakers, strict=True)
    ]
    if "client" in opened:
        return [failure for failure in every if failure.scope == "client"]
    for scope, text in evidence.items():
        if scope.startswith(REFUSED):
            continue
        failure = _only_bad(names.get(scope, scope), text, state.now_us)
        if scope not in opened and failure and state.now_us - failure.since_us >= BAD_FOR_US:
            every.append(failure)
    return sorted(every, key=lambda failure: failure.since_us)


def _only_bad(scope: str, text: str, now_us: int) -> Failure | None:
    """What the evidence of a scope says whose newest answer was bad.

    None: the newest was good, or it cannot be read.
    """
    if not is_evidence(text):
        return None
    answers, _, why = text.partition("\n")
    _, since_us, *newest = answers.split(" ")
    if not newest or newest[-1].endswith("+"):
        return None
    return Failure(
        scope=scope,
        cause="failing",
        since_us=number_of(since_us),
        why=why,
        seen_us=now_us,
        probe_us=None,
    )


def is_evidence(text: str) -> bool:
    """Whether this is what lua/includes/evidence.lua keeps of a scope."""
    start = re.match(r"(\d+) (\d+)(?: |\n|$)", text)
    return start is not None and all(map(is_number, start.groups()))
