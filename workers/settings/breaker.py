"""When the breaker of a client opens for answers of 429: the guide's rule, unless it is set.

A breaker opens when more than `percent` of the calls of the newest `window_s` seconds were refused,
and these were `min_calls` at least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import Field

from workers.settings.values import Model

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The longest window, seconds: the store keeps the counts of 16 seconds, of which one has begun.
LONGEST_WINDOW_S: Final = 15


class BreakerSettings(Model):
    """One rule; its defaults are the guide's 60 % of 10 s, of at least 20 calls."""

    percent: int = Field(60, ge=1, le=99)  #: of the calls; more than so many refused open it
    window_s: int = Field(10, ge=1, le=LONGEST_WINDOW_S)
    min_calls: int = Field(20, ge=1, le=10_000)  #: fewer calls in the window open nothing

    @property
    def rules(self) -> tuple[tuple[int, int, int], ...]:
        """Each rule as lua/includes/throttling.lua reads it: the first one that is met opens."""
        return ((self.percent, self.window_s, self.min_calls),)

    def __str__(self) -> str:
        texts = [
            f"above {percent} % of at least {least:,} calls in {window_s} s"
            for percent, window_s, least in self.rules
        ]
        return " or ".join(texts)


class AgreedBreaker(BreakerSettings):
    """The rules of configurations that are in use at once: the breaker opens by any of them."""

    versions: tuple[BreakerSettings, ...]  #: the newest first; this one repeats its values

    @property
    def rules(self) -> tuple[tuple[int, int, int], ...]:
        """The rules of all versions."""
        return tuple(rule for version in self.versions for rule in version.rules)


def agree_on_breaker(versions: Iterable[BreakerSettings]) -> BreakerSettings:
    """The breaker that opens where any of these does; the newest first."""
    by_rules = {version.rules: version for version in versions}
    newest, *older = by_rules.values()
    if not older:
        return newest
    return AgreedBreaker(
        percent=newest.percent,
        window_s=newest.window_s,
        min_calls=newest.min_calls,
        versions=(newest, *older),
    )
