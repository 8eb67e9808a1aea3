"""From a quota rule to the bucket that keeps it: the arithmetic that makes limits safe.

Every rate shape is governed by one and the same bucket (GCRA): `burst` tokens that come back at
`rate` tokens a second, kept as one integer, the moment at which the bucket is full again. Only the
calibration differs between the shapes, and this module computes it.

Let J be the spread between grant and arrival. What arrives at the provider in any W seconds was
granted in W + J seconds, and of those a bucket grants at most burst + rate × (W + J).

A **window** of W seconds and `count` calls is therefore kept, fixed or sliding and wherever it
starts, by `burst + rate × (W + J) <= count`, with J = min(100 ms, W / 20).

A **bucket** at the provider holds `count` tokens and gets `count / window_s` back a second. It
serves what arrives in *every* span of T seconds, T from 0 on, if that is at most
count + count / window_s × T. With `rate <= count / window_s` the span T = 0 is the worst, so
`burst + rate × J <= count` is enough. Where there is no room for that (a bucket of one token) each
token comes back J later here than there, which makes up for any delay.

- `guide`: 80 % of the burst, 90 % of the rate, and the J that this leaves, at most 100 ms.
- `tight`: 99.8 % of the rate, and the smallest burst that holds it beside a reserve.

A rate is held while no token comes back to a full bucket: one must be whole before its bell rings,
and those of the bell's way, twice its latency at most, wait beside it. Tokens beyond these may be
in reserve for the lane urgent.

A limit of shape `concurrent` is no rate: its bucket counts the calls that are under way.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from workers.errors import ConfigError
from workers.settings.values import NAME, Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Shape = Literal["bucket", "fixed_window", "sliding_window", "concurrent"]
Calibration = Literal["guide", "tight"]

#: Part of the provider's burst that a bucket takes, and of its sustained rate (the guide's rule).
BUCKET_BURST, BUCKET_RATE = 0.8, 0.9
#: Part of the sustained rate that a tight bucket takes. Two clocks that are each being corrected
#: differ by up to 0.1 %: at a rate closer than that, days of work drain the provider's bucket.
TIGHT_RATE = 0.998
#: Longest time from grant to arrival that any limit allows.
MAX_SPREAD_S = 0.1
#: With less time than this between grant and first byte, no call would ever leave.
MIN_SPREAD_S = 0.001
#: Time from the dispatcher's decision to the admission of the call, generously.
BELL_LATENCY_S = 0.05
#: How far ahead of its token a bell may ring where the burst is smaller than that latency.
LEAD_S = 0.05
#: One of so many tokens of a burst is kept for the lane urgent, where the rate does not need it.
RESERVE_PART = 20
#: The widest bucket: beyond a day's worth of tokens the integers of the store are not exact.
MAX_SPAN_US = 10**12
#: Settings that only a rate has.
_OF_A_RATE: Final = ("window_s", "calibration", "rate", "burst", "reserve")


def _usual_calibration(limit: dict[str, Any]) -> Calibration | None:
    shape = limit.get("shape")
    return None if shape == "concurrent" else "guide" if shape == "bucket" else "tight"


class LimitSettings(Model):
    """One quota rule of a client or of a tenant, as the provider states it."""

    name: str = Field(pattern=NAME)
    count: int = Field(ge=1)  #: calls per window, or at once where the shape is concurrent
    window_s: float = Field(1.0, gt=0)
    shape: Shape = "bucket"
    match: str = "* *"  #: method and path pattern, `*` stands for anything
    calibration: Calibration | None = Field(default_factory=_usual_calibration)
    """How near to the limit; unless set, guide for a bucket and tight for a window."""
    rate: float | None = Field(None, gt=0)  #: calls per second, instead of the calibration's
    burst: int | None = Field(None, ge=1)  #: tokens, instead of the calibration's
    reserve: int | None = Field(None, ge=0)  #: tokens of the burst that only urgent may take

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value == "client":
            raise ValueError(f"{value!r} is a name of Headgate's own; choose another one")
        return value

    @field_validator("match")
    @classmethod
    def _method_and_path(cls, value: str) -> str:
        if not re.fullmatch(r"\S+ +[/*]\S*", value):
            raise ValueError('must be a method and a path, such as "POST /api/v2/*" or "* *"')
        return value

    @model_validator(mode="after")
    def _fits_its_shape(self) -> LimitSettings:
        if self.shape == "concurrent":
            if given := [name for name in _OF_A_RATE if name in self.model_fields_set]:
                raise ValueError(
                    f'shape "concurrent" counts calls at once, whatever their rate; '
                    f"leave out {' and '.join(given)}"
                )
        elif self.shape != "bucket" and self.calibration == "guide":
            raise ValueError(
                'calibration "guide" is a rule for buckets and does not keep a window; '
                'use "tight" or leave it out'
            )
        return self


class AgreedLimit(LimitSettings):
    """A limit of which configurations that are in use say different things: all of them hold."""

    versions: tuple[LimitSettings, ...]  #: the newest first; this limit repeats its values


def other_versions(limit: LimitSettings) -> list[str]:
    """What other configurations in use say of the limit, as a person reads it."""
    older = limit.versions[1:] if isinstance(limit, AgreedLimit) else ()
    return [_state(version) for version in older]


def _state(limit: LimitSettings) -> str:
    if limit.shape == "concurrent":
        return f"{limit.count:,} at once"
    return f"{limit.count:,} per {limit.window_s:g} s, {limit.shape}, {limit.calibration}"


def agree_on(versions: Iterable[LimitSettings]) -> LimitSettings:
    """The limit that obeys all versions of it, the newest first: of one name, match and kind."""
    newest, *older = dict.fromkeys(versions)
    if not older:
        return newest
    values = {name: getattr(newest, name) for name in LimitSettings.model_fields}
    return AgreedLimit.model_construct(
        _fields_set=newest.model_fields_set, **values, versions=(newest, *older)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What the scripts need to know of one limit."""

    name: str
    interval_us: int  #: time for one token to come back; 0: `burst` calls at once, at any rate
    burst: int  #: tokens of a full bucket
    lead_us: int  #: how early a bell may ring, 0 for most
    spread_us: int  #: longest time from grant to the first byte
    reserve: int  #: tokens of the burst that only the lane urgent may take

    @property
    def rate(self) -> float | None:
        """Calls per second that the bucket lets through in the long run; None: any number."""
        return 1e6 / self.interval_us if self.interval_us else None

    def row(self) -> list[str | int]:
        """The bucket as the scripts read it."""
        return [
            self.name,
            self.interval_us,
            self.burst,
            self.lead_us,
            self.spread_us,
            self.reserve,
        ]


class _Calibrated(NamedTuple):
    """What the calibration of a limit comes to."""

    burst: int  #: tokens
    rate: float  #: tokens per second
    spread_s: float  #: longest time from grant to arrival


def bucket_of(limit: LimitSettings) -> Bucket:
    """The bucket that keeps `limit`, whatever the moment at which its window starts.

    A bell may ring ahead of its token (`lead_us`) only where the tokens that every lane may take
    last for less than the bell's latency.

    Raises:
        ConfigError: the limit is too small or too wide to be kept.
    """
    if isinstance(limit, AgreedLimit):
        return _strictest(limit.name, [bucket_of(version) for version in limit.versions])
    if limit.shape == "concurrent":
        return Bucket(
            name=limit.name,
            interval_us=0,
            burst=limit.count,
            lead_us=0,
            spread_us=int(MAX_SPREAD_S * 1e6),
            reserve=0,
        )
    burst, rate, spread_s = calibrated = _calibrated(limit)
    interval_us = math.ceil(1e6 / rate)
    _require_kept(limit, calibrated, interval_us)
    reserve = _reserve(limit, burst, rate)
    return Bucket(
        name=limit.name,
        interval_us=interval_us,
        burst=burst,
        lead_us=int(LEAD_S * 1e6) if burst - reserve < rate * BELL_LATENCY_S else 0,
        spread_us=int(spread_s * 1e6),
        reserve=reserve,
    )


def _strictest(name: str, buckets: Sequence[Bucket]) -> Bucket:
    """The bucket that keeps what each of these keeps, value by value.

    Each rule of this module bounds a sum of burst, rate and spread from above, or the interval of a
    token from below. Whatever keeps it still does with a longer interval, a smaller burst and a
    smaller spread. A smaller lead rings later. The smallest reserve is below the smallest burst.
    """
    return Bucket(
        name=name,
        interval_us=max(bucket.interval_us for bucket in buckets),
        burst=min(bucket.burst for bucket in buckets),
        lead_us=min(bucket.lead_us for bucket in buckets),
        spread_us=min(bucket.spread_us for bucket in buckets),
        reserve=min(bucket.reserve for bucket in buckets),
    )


def _calibrated(limit: LimitSettings) -> _Calibrated:
    sustained = limit.count / limit.window_s
    if limit.shape != "bucket":
        return _window(limit, sustained)
    if limit.calibration == "tight":
        return _tight_bucket(limit, sustained)
    burst = limit.burst or max(1, int(BUCKET_BURST * limit.count))
    rate = limit.rate or BUCKET_RATE * sustained
    return _Calibrated(burst, rate, _bucket_spread_s(limit, burst, rate))


def _require_kept(limit: LimitSettings, calibrated: _Calibrated, interval_us: int) -> None:
    burst, rate, spread_s = calibrated
    in_window = _most(limit, burst, interval_us, int(spread_s * 1e6))
    if (
        spread_s < MIN_SPREAD_S
        or rate > limit.count / limit.window_s
        or burst > limit.count
        or (limit.shape != "bucket" and in_window > limit.count)
    ):
        raise ConfigError(
            f"limit {limit.name}: burst {burst} at {rate:g} calls per second does not keep "
            f"{limit.count} calls per {limit.window_s:g} s; lower rate or burst"
        )
    if interval_us * burst > MAX_SPAN_US:
        raise ConfigError(f"limit {limit.name}: the window is too long for its count to be kept")


def _window(limit: LimitSettings, sustained: float) -> _Calibrated:
    spread_s = _patience_s(limit)
    most = max(1, limit.count - 1)
    burst = limit.burst or min(most, max(2, min(math.ceil(sustained * 0.1), limit.count // 100)))
    if burst > most:
        raise ConfigError(
            f"limit {limit.name}: burst {burst} leaves no rate within {limit.count} calls per "
            f"{limit.window_s:g} s; set it to {most} at most"
        )
    # A window for one single call: the next token comes just after window and spread.
    room = limit.count - burst or 0.999
    return _Calibrated(burst, limit.rate or room / (limit.window_s + spread_s), spread_s)


def _tight_bucket(limit: LimitSettings, sustained: float) -> _Calibrated:
    patience_s = _patience_s(limit)
    rate = limit.rate or TIGHT_RATE * sustained
    if limit.count == 1 and not limit.rate:
        rate = min(rate, 1 / (limit.window_s + patience_s))
    room = max(1, int(limit.count - rate * patience_s))
    holding = _holding(rate)
    burst = limit.burst or min(holding + max(1, holding // (RESERVE_PART - 1)), room)
    return _Calibrated(burst, rate, _bucket_spread_s(limit, burst, rate))


def _patience_s(limit: LimitSettings) -> float:
    return min(MAX_SPREAD_S, limit.window_s / 20)


def _bucket_spread_s(limit: LimitSettings, burst: int, rate: float) -> float:
    later_s = 1 / rate - limit.window_s / limit.count
    return min(MAX_SPREAD_S, max((limit.count - burst) / rate, later_s))


def _holding(rate: float) -> int:
    return 1 + math.ceil(rate * 2 * BELL_LATENCY_S)


def _reserve(limit: LimitSettings, burst: int, rate: float) -> int:
    if limit.reserve is None:
        return max(0, min(max(1, burst // RESERVE_PART), burst - _holding(rate)))
    if limit.reserve >= burst:
        raise ConfigError(
            f"limit {limit.name}: reserve {limit.reserve} leaves nothing of burst {burst} to the "
            f"other lanes; lower reserve"
        )
    return limit.reserve


def tenant_bucket(tenant: str, limit: LimitSettings) -> Bucket:
    """The bucket of a limit that a tenant has for itself."""
    return replace(bucket_of(limit), name=f"{tenant}/{limit.name}")


def worst_case(limit: LimitSettings) -> int:
    """The most calls that can arrive at the provider in any window of `limit`, or be there at once.

    Raises:
        ConfigError: the limit cannot be kept.
    """
    kept = bucket_of(limit)
    if not kept.interval_us:
        return kept.burst
    return _most(limit, kept.burst, kept.interval_us, kept.spread_us)


def _most(limit: LimitSettings, burst: int, interval_us: int, spread_us: int) -> int:
    return burst + (round(limit.window_s * 1e6) + spread_us) // interval_us


@lru_cache(maxsize=4096)
def _pattern(match: str) -> re.Pattern[str]:
    method, path = match.split()
    return re.compile(translate(f"{method.upper()} {path}"))


def matching(limits: Iterable[LimitSettings], route: str) -> list[LimitSettings]:
    """The limits that a call of this route ("POST /api/v2/…", its query left out) is charged to."""
    plain = route.partition("?")[0]
    return [limit for limit in limits if _pattern(limit.match).match(plain)]
