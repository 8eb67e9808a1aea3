"""What holds a client: pauses, open breakers, and what the provider's headers leave. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.governor.state import held_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def holds(gov: Mapping[str, str], spans: Mapping[str, tuple[str, int]], now_us: int) -> list[Hold]:
    """The cells that were moved beyond their empty state: no token until a moment to come.

    What ends with the client's own hold is one with it. The longest comes first.

    Args:
        gov: The governor's hash.
        spans: As `flows.spans`.
        now_us: The store's time.
    """
    found = []
    for name, (scope, span_us) in spans.items():
        if until_us := held_until(gov, name, span_us, now_us):
            left_s = (until_us - now_us) / 1e6
            why = gov.get(f"y:{name}", "")
            found.append(Hold(scope=scope, until_us=until_us, left_s=left_s, why=why))
    client_us = max((it.until_us for it in found if it.scope == "client"), default=0)
    shown = [it for it in found if it.scope == "client" or it.until_us > client_us]
    return sorted(shown, key=lambda it: -it.until_us)


def half_open(gov: Mapping[str, str], holds: Iterable[Hold]) -> bool:
    """Whether the breaker lets one call at a time through, to see if the provider is back."""
    return "breaker" in gov and all(it.scope != "client" for it in holds)


def told(
    gov: Mapping[str, str], spans: Mapping[str, tuple[str, int]], now_us: int
) -> dict[str, int]:
    """Calls that the provider's headers leave, by what they were told of, until their reset."""
    found = {}
    for name, (scope, _) in spans.items():
        left, _, reset_us = gov.get(f"z:{name}", "0 0").partition(" ")
        if int(reset_us) > now_us:
            found[scope] = int(left)
    return found
