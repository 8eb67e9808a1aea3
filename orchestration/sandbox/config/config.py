"""What the sandbox does, as one value: read from JSON, replaced as a whole while it runs."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, Union

Json = dict[str, Any]
T = TypeVar("T")

FaultKind = Literal[
    "429",
    "5xx_before",
    "5xx_after",
    "5xx_stored",
    "drop_before",
    "drop_after",
    "hang",
    "hang_before",
    "slow_body",
    "bad_json",
    "400",
    "401",
    "403",
    "404",
    "409",
    "redirect",
    "huge_body",
    "truncated",
]


class ConfigError(ValueError):
    """The configuration names a field or a value that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One quota rule, counted per OAuth client and decided at arrival."""

    name: str
    count: int  #: calls, >= 1
    window_s: float = 0.0  #: seconds, > 0; without meaning for `concurrent`
    #: concurrent: at most `count` calls in work at once, each from its arrival until it is in the
    #: journal, which its latency delays; a refused one is told to come back after a second
    shape: Literal["bucket", "fixed_window", "sliding_window", "concurrent"] = "bucket"
    match: str = "* *"  #: glob over "METHOD /path" without the query
    per: Literal["client", "endpoint"] = "client"  #: endpoint: client and route apart
    capacity: int | None = None  #: of a bucket; None: `count`
    #: where a fixed window begins. start: a grid laid by the first call; epoch: a grid laid by the
    #: Unix epoch; call: with the first call after the last window ended
    align: Literal["start", "epoch", "call"] = "start"
    count_refused: bool = False  #: calls refused with 429 are charged too
    #: 0 <= other_share < 1: a sender whom the journal does not know takes this part of
    #: `count` / `window_s`, evenly, from the first call of each scope on, and never asks twice
    other_share: float = 0.0

    def __post_init__(self) -> None:
        rate = self.shape != "concurrent"
        if self.count < 1 or (rate and self.window_s <= 0) or (self.capacity or 1) < 1:
            raise ConfigError(
                f"limit {self.name!r}: count and capacity must be >= 1 and window_s > 0"
            )
        if not 0 <= self.other_share < 1:
            raise ConfigError(f"limit {self.name!r}: other_share must be >= 0 and < 1")
        if not rate and (self.other_share or self.count_refused):
            raise ConfigError(
                f"limit {self.name!r}: concurrent goes with neither other_share nor count_refused"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Which of the matching calls a fault hits: all named conditions must hold; none: every one."""

    every: int | None = None  #: the n-th, 2n-th, ... matching call
    first: int | None = None  #: the first n matching calls
    probability: float | None = None  #: 0..1, from the rule's own seed
    business_ids: tuple[str, ...] | None = None  #: calls that carry one of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to misbehave; `*_before` kinds and plain statuses have no effect, the rest do."""

    kind: FaultKind
    #: glob over "METHOD /path"; the token endpoints and /transfers/ only if they are named
    match: str = "* *"
    when: When = field(default_factory=When)
    times: int | None = None  #: most hits in all
    per_business_id_times: int | None = None  #: most hits per business id
    #: of 5xx_before (503), 5xx_after and 5xx_stored (500), and redirect (302)
    status: int | None = None
    retry_after: str | int | None = None  #: header of a 429 or 5xx, sent as it is; None: no header
    hang_s: float = 30.0  #: silence before the connection is closed
    slow_s: float = 5.0  #: time that the dripping body takes
    size_mb: float = 1.0  #: of a huge body
    gzip: bool = False  #: a huge body is sent compressed, some 1000 : 1
    location: str = "http://elsewhere.invalid/"  #: of a redirect
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Calls that are answered 429 at their arrival, whatever the limits say and uncharged."""

    seconds: float  #: from the order on; 0 ends a storm
    share: float = 1.0  #: 0..1, of the matching calls, spread evenly among them
    match: str = "* *"  #: glob over "METHOD /path"; never the token endpoint
    retry_after: str | int | None = None  #: header, sent as it is; None: no header

    def __post_init__(self) -> None:
        if self.seconds < 0 or not 0 <= self.share <= 1:
            raise ConfigError("seconds must be >= 0 and share in 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set; `POST /_sandbox/config` replaces fields while it runs."""

    auth: bool = True  #: API paths need a bearer token
    clients: dict[str, str] = field(
        default_factory=lambda: {"demo": "demo-secret"}, repr=False
    )  #: OAuth client id -> secret
    access_keys: dict[str, str] = field(
        default_factory=lambda: {"demo-key": "demo-key-secret"}, repr=False
    )  #: of the CXone token endpoints: id -> secret
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)  #: key -> its client
    token_lifetime_s: float = 86_400.0
    cxone_lifetime_s: float = 3_600.0  #: of tokens from the CXone token endpoints
    limits: tuple[Limit, ...] = ()
    #: form of Retry-After on a 429. seconds: rounded up; date: HTTP date; hours: always 7200
    retry_after: Literal["seconds", "date", "none", "garbage", "hours"] = "seconds"
    #: what each answer tells of the limits, also a 429 by one of them. ratelimit-fields: the IETF
    #: form with a number a header; ratelimit: the IETF form that lists every limit
    rate_headers: Literal["none", "x-ratelimit", "inin", "ratelimit-fields", "ratelimit"] = "none"
    latency_ms: float = 0.0  #: median time between acceptance and effect
    latency_sigma: float = 0.0  #: of a log-normal spread; 0: none
    idempotency: Literal["method_path_key", "key", "off"] = "method_path_key"
    idempotency_match: str = "* *"  #: glob over "METHOD /path": where keys are honoured at all
    idempotency_header: str = "Idempotency-Key"
    idempotency_lifetime_s: float = 86_400.0
    store_5xx: bool = False  #: all 5xx answers are remembered and replayed, as those of 5xx_stored
    strict_lists: bool = False  #: contacts for an unknown list are refused, not a new list
    #: lists and campaigns without a field that the platform requires, and campaigns for an unknown
    #: list, are refused
    strict_fields: bool = False
    #: a list, campaign, prompt or asset with the name of another one is a second one, or a 409
    duplicate_names: Literal["allowed", "refused"] = "allowed"
    #: of an update with a version that is not the current one
    stale_version: Literal["409", "400"] = "409"
    #: of a start of what is not off. harmless: 200, it runs on, and the journal counts a start
    second_start: Literal["harmless", "409", "400"] = "harmless"
    stopping_s: float = 0.0  #: a stopped campaign is `stopping` so long before it is off
    dials_per_s: float = 0.0  #: contacts that a running campaign calls; 0: none, it runs on
    url_lifetime_s: float = 600.0  #: of the signed URLs for files
    transcode_s: float = 0.0  #: from a file's arrival until it is ready, or has failed
    #: glob over a file's name (an asset's; of a prompt "name/language"): its transcoding fails
    bad_files: str = "*transcode-fails*"
    max_contacts: int = 1000  #: in one call
    max_body_bytes: int = 512_000  #: of a call that adds contacts
    unique: str = ""  #: glob over "METHOD /path": a second write of a business id is refused, 409
    read_lag_s: float = 0.0  #: writes become visible to reads so much later
    faults: tuple[Fault, ...] = ()
    seed: int = 0  #: of the latency

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.limits]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"each limit needs a name of its own, {twice} is there twice")

    @classmethod
    def from_json(cls, raw: Json) -> Config:
        """Build from a JSON object.

        Raises:
            ConfigError: an unknown field, or a value of the wrong type or outside its choices.
        """
        return build(cls, raw, "config")

    def merged(self, raw: Json) -> Config:
        """Return a copy in which the top-level fields of `raw` are replaced; errors as above."""
        changed = build(type(self), raw, "config")
        return dataclasses.replace(self, **{name: getattr(changed, name) for name in raw})


def build(cls: type[T], raw: object, where: str) -> T:
    """Make the dataclass `cls` from a JSON object, checking names and types all the way down."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} must be a JSON object, got {type(raw).__name__}")
    hints = typing.get_type_hints(cls)
    if unknown := sorted(set(raw) - set(hints)):
        raise ConfigError(f"{where} has unknown fields {unknown}; known are {sorted(hints)}")
    values = {name: _read(hints[name], value, f"{where}.{name}") for name, value in raw.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where} lacks a required field: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read(hint: Any, value: object, where: str) -> object:  # noqa: ANN401 - type hints have no type
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = tuple(kind for kind in args if kind is not type(None))
        if len(kinds) == 1:
            return _read(kinds[0], value, where)
        fits = isinstance(value, kinds)
    elif origin is Literal:
        fits = value in args
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_read(args[0], item, f"{where}[{n}]") for n, item in enumerate(value))
        fits = False
    elif origin is dict:
        fits = isinstance(value, dict) and all(isinstance(v, args[1]) for v in value.values())
    elif dataclasses.is_dataclass(hint):
        return build(typing.cast("type[object]", hint), value, where)
    else:
        kinds = (int, float) if hint is float else (hint,)
        fits = isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))
    if not fits:
        wanted = ", ".join(map(str, args)) if origin is Literal else getattr(hint, "__name__", hint)
        got = type(value).__name__ if origin is dict else repr(value)
        raise ConfigError(f"{where} must be {wanted}, got {got}")
    return value
