"""What a client's governor holds just now, for those who only look: the hash `gov` by full names.

`FIELDS` and `PREFIXES` are the legend of the stored names: this file is the only place in Python
that knows them. The Lua prelude repeats the legend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.store.connection import to_us
from workers.store.reading import is_number, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.settings.limits import Bucket
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: A bucket with a lead is charged so far ahead of its tokens; that is no hold.
AHEAD_US: Final = 150_000
#: The counter of a second holds the second times this, plus how many.
SECOND: Final = 100_000

#: Stored name → meaning, one sentence.
FIELDS: Final[Mapping[str, str]] = {
    "at": "When somebody rang last, us since the epoch.",
    "asked": "When a call from outside of jobs was asked for last.",
    "sent": "Number of the newest grant, a moment that never goes back; negative: stopped.",
    "next": "When a ring is needed next, us since the epoch; absent: not before it is woken.",
    "owner": "The worker that rings, and until when no other one does.",
    "set_back": "By how much the store's clock was set back, all in all.",
    "opened": "The scope whose breaker opened last.",
    "opened_us": "When it opened.",
    "refused": "The scope that was refused last.",
    "refused_us": "When it was refused.",
    "paused": "An operator's pause: its end, and that of the hold which was there before.",
    "quarantined": "The transaction in quarantine that is out.",
    "capped": "Tenants that were given limits of their own live, / around each.",
}
#: Prefix of a stored name → what follows it, and meaning, one sentence.
PREFIXES: Final[Mapping[str, str]] = {
    "c:": "bucket: when it is full again.",
    "l:": "bucket of concurrent calls: its places that are taken.",
    "b:": "bucket: bells that are out for it.",
    "g:": "bucket: until when its next token is left to a permit.",
    "k:": "scope: while its breaker is open, from when on a probe may go.",
    "d:": "scope: when its breaker closed last, if it was ever open.",
    "y:": "scope: the reason of its pause.",
    "429:": "scope: while a 429 of it is open, rows that went since one that was refused.",
    "z:": "scope: calls that the provider's headers leave, and until when.",
    "q:": "lane: transactions that wait.",
    "p:": "lane and tenant: its pass.",
    "v:": "lane: the pass of who went last.",
    "s:": "lane and limit: bells of earlier lanes since one of its own, at most 19.",
    "n:": "second % 16: calls that were granted.",
    "u:": "second % 16: grants that were not used.",
    "x:": "second % 16: calls that were refused.",
    "w:": "worker for calls: its threads, and until when they count.",
    "m:": "worker for transfers: its threads, and until when they count.",
    "o:": "job: until when somebody opens its next page.",
}

#: Fields, or how they begin, that hold texts.
_TEXTS: Final = ("y:", "opened", "refused", "quarantined", "capped", "owner")
#: Pool of threads → prefix of its workers.
_WORKERS: Final = {"calls": "w:", "media": "m:"}


@dataclass(frozen=True, slots=True)
class GovernorState:
    """The governor of a client at one moment."""

    stored: Mapping[str, str]  #: the hash
    now_us: int  #: the store's time when it was read

    @classmethod
    def read(cls, store: Store, keys: ClientKeys) -> GovernorState:
        """The state as it is now, in one round trip."""
        pipe = store.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(keys.governor)
        now, stored = pipe.execute()
        return cls(stored, to_us(now))

    @property
    def open_breakers(self) -> dict[str, int]:
        """Each scope whose breaker is open → from when on a probe may go, us since the epoch."""
        return {
            field.removeprefix("k:"): number_of(value, self.now_us)
            for field, value in self.stored.items()
            if field.startswith("k:")
        }

    def bells_out(self, bucket: str = "client") -> int:
        """Bells that are out for a bucket, all those of calls by default."""
        return self._number(f"b:{bucket}")

    def out_of_pool(self, pool: str) -> int:
        """Local steps of a pool that are out: their bells, and those under way."""
        return self.bells_out(f"pool:{pool}") + self._number(f"l:pool:{pool}")

    def held_until(self, bucket: str, span_us: int) -> int | None:
        """The moment, in us, until which a bucket gives no token whatever comes back.

        Args:
            bucket: Its name.
            span_us: How long the bucket takes to fill.

        Returns:
            None when nothing holds it.
        """
        until_us = self._number(f"c:{bucket}") - span_us
        return until_us if until_us > self.now_us + AHEAD_US else None

    def hold_reason(self, scope: str) -> str:
        """Why a scope is held, one sentence; "" = not known."""
        return self.stored.get(f"y:{scope}", "")

    def provider_leaves(self, scope: str) -> int | None:
        """Calls that the provider's headers leave to a scope until their reset; None: unknown."""
        left, _, reset_us = self.stored.get(f"z:{scope}", "0 0").partition(" ")
        return number_of(left) if number_of(reset_us) > self.now_us else None

    def tokens_left(self, bucket: Bucket) -> int | None:
        """Tokens in a bucket, or its free places; None: not in use, it will start empty."""
        if bucket.rate is None:
            return bucket.burst - self._number(f"l:{bucket.name}")
        full_at = f"c:{bucket.name}"
        if full_at not in self.stored:
            return None
        short_us = max(0, self._number(full_at) - self.now_us)
        return max(0, (bucket.interval_us * bucket.burst - short_us) // bucket.interval_us)

    def grants_by_second(self) -> dict[int, int]:
        """How many calls were granted in each of the newest seconds that saw any, at most 16."""
        counts = (
            number_of(value) for field, value in self.stored.items() if field.startswith("n:")
        )
        return {count // SECOND: count % SECOND for count in counts}

    def live_threads(self, pool: str = "calls") -> dict[str, int]:
        """The threads of each worker of a pool that rang of late, by its name."""
        live, prefix = {}, _WORKERS[pool]
        for field, value in self.stored.items():
            if field.startswith(prefix):
                threads, _, till_us = value.partition(" ")
                if number_of(till_us) > self.now_us:
                    live[field.removeprefix(prefix)] = number_of(threads)
        return live

    def _number(self, field: str) -> int:
        """A whole number of the hash; 0 when it is not there, or cannot be read."""
        return number_of(self.stored.get(field, ""))

    def damaged(self) -> list[str]:
        """The fields that should hold a number and do not, for people to look at."""
        return sorted(
            field
            for field, value in self.stored.items()
            if not field.startswith(_TEXTS)
            and not all(is_number(part) for part in value.split(" "))
        )


def bucket_field(bucket: str, *, counts_places: bool) -> str:
    """The stored name of a bucket's state: of its taken places, or of when it is full again."""
    return f"{'l' if counts_places else 'c'}:{bucket}"


def bells_field(bucket: str) -> str:
    """The stored name of the bells that are out for a bucket."""
    return f"b:{bucket}"
