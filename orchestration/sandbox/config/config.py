"""The fields of the provider and of its limits, as values that are replaced as a whole."""

import dataclasses
import fnmatch
import re
from dataclasses import dataclass, field
from typing import Literal, Self

from orchestration.sandbox.config.fault import Fault
from orchestration.sandbox.config.json_values import InvalidConfig, JsonObject, build_from_json


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Compile a glob over "METHOD /path" as the fields `match` have it; `*` matches slashes too."""
    return re.compile(fnmatch.translate(pattern))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One quota rule. It is counted per OAuth client and decided at the arrival of a call."""

    name: str
    count: int  #: calls, >= 1
    window_s: float = 0.0  #: seconds, > 0; `concurrent` does not use it
    #: concurrent: at most `count` calls are in work at once, each from its arrival until it is in
    #: the journal; a latency keeps it in work for longer, and a refused call is asked to wait 1 s
    shape: Literal["bucket", "fixed_window", "sliding_window", "concurrent"] = "bucket"
    match: str = "* *"  #: glob over "METHOD /path" without the query
    #: endpoint: each route (method and path, with a name in place of each id) is counted apart
    per: Literal["client", "endpoint"] = "client"
    capacity: int | None = None  #: tokens of a full bucket, >= 1; None: `count`
    #: where a fixed window begins. start: on a grid that the first call lays; epoch: on a grid that
    #: the Unix epoch lays; call: with the first call after the last window ended
    align: Literal["start", "epoch", "call"] = "start"
    count_refused: bool = False  #: calls that are refused with 429 are charged too
    #: 0 <= other_share < 1. Another sender, which is not in the journal, takes this share of
    #: `count` / `window_s`, evenly, from the first call of each scope on, and never retries
    other_share: float = 0.0

    def __post_init__(self) -> None:
        is_rate = self.shape != "concurrent"
        if self.count < 1 or (is_rate and self.window_s <= 0) or (self.capacity or 1) < 1:
            raise InvalidConfig(
                f"limit {self.name!r}: count and capacity must be >= 1 and window_s > 0"
            )
        if not 0 <= self.other_share < 1:
            raise InvalidConfig(f"limit {self.name!r}: other_share must be >= 0 and < 1")
        if not is_rate and (self.other_share or self.count_refused):
            raise InvalidConfig(
                f"limit {self.name!r}: concurrent goes with neither other_share nor count_refused"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set; `POST /_sandbox/config` replaces fields while it runs."""

    auth: bool = True  #: calls of the API need a bearer token or an API key
    clients: dict[str, str] = field(
        default_factory=lambda: {"demo": "demo-secret"}, repr=False
    )  #: OAuth client id -> secret
    access_keys: dict[str, str] = field(
        default_factory=lambda: {"demo-key": "demo-key-secret"}, repr=False
    )  #: access keys of the CXone token endpoints: id -> secret
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)  #: key -> its client
    token_lifetime_s: float = 86_400.0  #: of tokens from `/oauth/token`
    #: answer to a call whose token is missing, unknown or too old
    unauthorised: Literal["401", "403"] = "401"
    cxone_lifetime_s: float = 3_600.0  #: of tokens from the CXone token endpoints
    limits: tuple[Limit, ...] = ()
    #: form of Retry-After on a 429. seconds: rounded up; date: HTTP date; none: no header;
    #: garbage: a word; hours: always 7200
    retry_after: Literal["seconds", "date", "none", "garbage", "hours"] = "seconds"
    #: headers of each answer, also of a 429, that state what is left of the limits.
    #: ratelimit-fields: the IETF form with one number a header; ratelimit: the IETF form that lists
    #: every limit
    rate_headers: Literal["none", "x-ratelimit", "inin", "ratelimit-fields", "ratelimit"] = "none"
    latency_ms: float = 0.0  #: median time between the acceptance of a call and its effect
    latency_sigma: float = 0.0  #: spread of a log-normal latency; 0: none
    #: what a key belongs to besides its client; off: keys are ignored
    idempotency: Literal["method_path_key", "key", "off"] = "method_path_key"
    idempotency_match: str = "* *"  #: glob over "METHOD /path": calls whose keys are honoured
    idempotency_header: str = "Idempotency-Key"
    idempotency_lifetime_s: float = 86_400.0  #: from the first call under a key
    store_5xx: bool = False  #: answers of 5xx_before and 5xx_after are remembered and replayed too
    strict_lists: bool = False  #: contacts for an unknown list are refused; else the list is made
    #: lists and campaigns that lack a field which the platform requires are refused, and so are
    #: campaigns for an unknown list
    strict_fields: bool = False
    #: what happens to a list, campaign, prompt or asset whose name is taken. allowed: a second one
    #: is made; refused: 409
    duplicate_names: Literal["allowed", "refused"] = "allowed"
    #: answer to an update with a version that is not the current one
    stale_version: Literal["409", "400"] = "409"
    #: answer to the start of a campaign that is on or stopping. harmless: 200, the campaign runs
    #: on, and the journal counts a start
    second_start: Literal["harmless", "409", "400"] = "harmless"
    stopping_s: float = 0.0  #: seconds that a stopped campaign is `stopping` before it is off
    dials_per_s: float = 0.0  #: contacts that a running campaign calls each second; 0: none
    url_lifetime_s: float = 600.0  #: of the signed URLs for files
    transcode_s: float = 0.0  #: from the arrival of a file until it is ready or has failed
    #: glob over a file's name (of an asset its name, of a prompt "name/language"): the transcoding
    #: of these files fails
    bad_files: str = "*transcode-fails*"
    max_contacts: int = 1000  #: in one call
    max_body_bytes: int = 512_000  #: of a call that adds contacts
    #: glob over "METHOD /path" of other paths: a second write of a business id is refused with 409
    unique: str = ""
    read_lag_s: float = 0.0  #: seconds until reads see what was written
    faults: tuple[Fault, ...] = ()  #: the first one that hits a call decides
    seed: int = 0  #: of the latency

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.limits]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidConfig(f"each limit needs a name of its own, {twice} is there twice")

    @classmethod
    def from_json(cls, raw: JsonObject) -> Self:
        """Build from a JSON object.

        Raises:
            InvalidConfig: A field is unknown, or a value has the wrong type or range.
        """
        return build_from_json(cls, raw, "config")

    def merged(self, raw: JsonObject) -> Self:
        """Return a copy in which the top-level fields of `raw` are replaced; errors as above."""
        changed = build_from_json(type(self), raw, "config")
        return dataclasses.replace(self, **{name: getattr(changed, name) for name in raw})
