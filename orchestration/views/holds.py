"""What holds a client: pauses, and the calls that the provider leaves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from orchestration.text import format_duration
from workers.clock import format_clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.governor.state import GovernorState

#: A pause without an end, in seconds: ten years.
FOREVER_S: Final = 3650 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why nothing may leave for a scope, and until when."""

    scope: str  #: "client", the name of a limit, or a route: method and path
    until_us: int
    left_s: float
    why: str  #: one sentence, "" = not known

    @property
    def endless(self) -> bool:
        """Whether it lasts until an operator ends it."""
        return self.left_s > FOREVER_S / 2

    @property
    def sentence(self) -> str:
        """What people are told, with times of this host."""
        now_us = self.until_us - round(self.left_s * 1e6)
        until = f"{format_clock(self.until_us, now_us)}, another {format_duration(self.left_s)}"
        text = f"{self.scope} is paused until {'it is resumed' if self.endless else until}"
        return f"{text}: {self.why}" if self.why else text


def holds(state: GovernorState, spans: Mapping[str, tuple[str, int]]) -> list[Hold]:
    """The buckets that give no token until a moment to come, the longest hold first.

    A hold that ends no later than the client's own is part of that one, and left out.

    Args:
        state: The governor's.
        spans: As `flows.spans`.
    """
    every = []
    for bucket, (scope, span_us) in spans.items():
        if until_us := state.held_until(bucket, span_us):
            left_s = (until_us - state.now_us) / 1e6
            why = state.hold_reason(bucket)
            every.append(Hold(scope=scope, until_us=until_us, left_s=left_s, why=why))
    client_us = max((hold.until_us for hold in every if hold.scope == "client"), default=0)
    shown = [hold for hold in every if hold.scope == "client" or hold.until_us > client_us]
    return sorted(shown, key=attrgetter("until_us"), reverse=True)


def provider_leaves(state: GovernorState, spans: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """Limit or route → the calls that the provider's headers leave to it until their reset.

    Args:
        state: The governor's.
        spans: As `flows.spans`.
    """
    return {
        scope: left
        for bucket, (scope, _) in spans.items()
        if (left := state.provider_leaves(bucket)) is not None
    }
