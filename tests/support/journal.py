"""What must hold between the ledger and the journal of a sandbox: one function each.

The journal shares nothing with Headgate and so not its mistakes. A violation is one sentence, no
violation an empty list; `tests/support/faults/checks.py` runs them all after every fault test.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from orchestration.kinds import find_kind
from orchestration.views.pages import transactions_of
from tasks.genesys.operations import operation_of
from tasks.rest.references import REFERENCE
from workers.answer.guards import READS, Guard
from workers.ledger import identity
from workers.settings.limits import worst_case

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workers.clients import Client
    from workers.settings.limits import LimitSettings

#: What the sandbox's control API lists: effects or requests.
Record = dict[str, Any]
#: One call of a transaction: the step, from 1, and its part, from 0.
Place = tuple[int, int]

#: The part of all transactions that succeeds where the provider ends healthy.
MOST = 0.95


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of the ledger beside what it was to send."""

    key: str
    state: str
    step: int  #: that is next, out, or the last one
    routes: tuple[str, ...]  #: method and path of each step, with references to earlier answers
    guards: str  #: the guard of each step, one letter each
    part: int = 0  #: calls of the step that are done
    parts: tuple[int, ...] = ()  #: how many calls each step takes; () = one each

    @property
    def at(self) -> Place:
        """The call that is next, out, or the last one."""
        return self.step, self.part

    @property
    def writes(self) -> list[Place]:
        """The calls that have an effect, in their order."""
        parts = self.parts or (1,) * len(self.guards)
        return [
            (number, part)
            for number, guard in enumerate(self.guards, 1)
            if guard != Guard.READ
            for part in range(parts[number - 1])
        ]


def mostly_succeeded(transactions: Iterable[Transaction], part: float = MOST) -> list[str]:
    """At least this part of the transactions succeeded, so that the run proves something."""
    states = Counter(it.state for it in transactions if it.state != "split")
    if states["succeeded"] >= part * states.total():
        return []
    return [f"only {states['succeeded']} of {states.total()} transactions succeeded"]


def at_most_one_effect(effects: Iterable[Record]) -> list[str]:
    """Nothing was done twice: one effect for each method, path and business id."""
    counts = Counter((it["method"], it["path"], it["business_id"]) for it in effects)
    return [
        f"{method} {path} had {count} effects on {name}"
        for (method, path, name), count in counts.items()
        if count > 1
    ]


def effects_match_states(
    transactions: Iterable[Transaction], effects: Iterable[Record]
) -> list[str]:
    """No lies: `succeeded` implies an effect of every step, `failed` none of the one that failed.

    Only `unknown` may be either.
    """
    known = list(transactions)
    done = _by_step(known, effects)
    violations = []
    for it in known:
        if it.state in ("succeeded", "failed", "unknown"):
            must = [place for place in it.writes if it.state == "succeeded" or place < it.at]
            violations += [
                f"{it.key} is {it.state}, but {_named(place)} had no effect"
                for place in must
                if place not in done[it.key]
            ]
        if it.state == "failed":
            violations += [
                f"{it.key} failed at {_named(it.at)}, but {_named(place)} had an effect"
                for place in done[it.key]
                if place >= it.at
            ]
    return violations


def steps_in_order(transactions: Iterable[Transaction], effects: Iterable[Record]) -> list[str]:
    """No step had its effect before the one ahead of it."""
    known = list(transactions)
    done = _by_step(known, effects)
    violations = []
    for it in known:
        for before, after in pairwise(it.writes):
            earlier, later = done[it.key].get(before), done[it.key].get(after)
            if later is not None and (earlier is None or earlier > later):
                violations.append(f"{it.key}: {_named(after)} before {_named(before)}")
    return violations


def one_key_per_transaction(
    transactions: Iterable[Transaction], requests: Iterable[Record]
) -> list[str]:
    """Every request but a look-up carries the key of a transaction.

    What it acts on never sees another.
    """
    ours = {name for it in transactions for name in _keys_of(it)}
    used, strange = defaultdict[tuple[str, str, str], set[str]](set), Counter[str]()
    for it in requests:
        key = it.get("key", "")
        if it["kind"] == "token" or (not key and it["method"] in READS):
            continue
        if key not in ours:
            strange[key] += 1
        for name in (*it.get("created", ()), *it.get("updated", ()), *it.get("repeated", ())):
            used[it["method"], it["path"], name].add(key)
    return [
        f"{count} requests under {key or 'no key'}, which no transaction has"
        for key, count in strange.items()
    ] + [
        f"{method} {path} acted on {name} under {len(their)} keys"
        for (method, path, name), their in used.items()
        if len(their) > 1
    ]


def only_known_operations(requests: Iterable[Record]) -> list[str]:
    """Every request is a call of the table of operations, and those without an effect have no key.

    A read by POST from outside of jobs has one, as every POST of theirs has.
    """
    violations = []
    for it in requests:
        if it["kind"] == "token":
            continue
        name = operation_of(it["method"], it["path"])
        if not name:
            violations.append(f"{it['method']} {it['path']} is no operation that is known")
        elif bool(it.get("key")) is (it["method"] in READS):
            violations.append(f"{name} was sent with key {it.get('key')!r}")
    return violations


def within_limits(report: Record, limits: Iterable[LimitSettings] = ()) -> list[str]:
    """The requests that arrived in any window are within the limit.

    Args:
        report: What the sandbox reports.
        limits: The client's limits. One of the same name as a limit of the sandbox bounds its
            windows by what the governor promises: for a bucket that is more than the count, since
            the burst comes on top.
    """
    promised = {it.name: worst_case(it) for it in limits}
    bounds = [(it, promised.get(it["name"], it["count"])) for it in report["windows"]]
    return [
        f"limit {it['name']}: {it['max_arrived']} requests within {it['window_s']:g} s, "
        f"{most} are allowed"
        for it, most in bounds
        if it["max_arrived"] > most
    ]


def nothing_refused(report: Record) -> list[str]:
    """The provider, which enforces its limits strictly, answered no 429."""
    refused = report["refused_429"]
    return [f"{refused} requests were refused with 429"] if refused else []


def quiet_in_pauses(
    requests: Iterable[Record], retry_after_s: float, reaction_s: float = 0.5
) -> list[str]:
    """No request while a Retry-After runs.

    Args:
        requests: In any order.
        retry_after_s: What each 429 of the run asked for.
        reaction_s: From the arrival of a refused request to the settle that sets the pause, and
            to the arrival of what was granted just before.
    """
    moments = sorted((it["t_us"], it["kind"]) for it in requests if it["kind"] != "token")
    refused_us = [t_us for t_us, kind in moments if kind == "refused"]
    violations = []
    for t_us, _ in moments:
        # The newest refusal that everybody has heard of reaches farthest.
        before = bisect_left(refused_us, t_us - reaction_s * 1e6)
        left_s = (refused_us[before - 1] - t_us) / 1e6 + retry_after_s if before else 0.0
        if left_s > 0:
            violations.append(f"a request {left_s:.3f} s before the end of a pause")
    return violations


def transactions(client: Client, job: str) -> Iterator[Transaction]:
    """The released transactions of a job, for the invariants that need the journal."""
    params = client.ledger.job_params(job)
    kind = find_kind(params.kind).steps
    for page in range(client.ledger.job(job).next_page):
        for row, key, _, stored in transactions_of(client, job, page):
            planned = kind.plan(row, params, client.settings())
            yield Transaction(
                key=key,
                state=stored.state if stored else "",
                step=stored.step if stored else 1,
                part=(stored.done_calls or 0) if stored else 0,
                parts=tuple(it.parts for it in planned),
                routes=tuple(it.route for it in planned),
                guards="".join(it.guard for it in planned),
            )


def _named(place: Place) -> str:
    step, part = place
    return f"step {step}" + (f", part {part + 1}" if part else "")


def _keys_of(it: Transaction) -> dict[str, Place | None]:
    """The key of the transaction, and those of its calls, where they are to be told apart."""
    keys: dict[str, Place | None] = {it.key: None}
    for k in range(1, len(it.routes) + 1):
        keys[identity.step_key(it.key, k)] = (k, 0)
    for k, part in it.writes:
        keys[identity.part_key(it.key, k, part + 1)] = (k, part)
    return keys


def _by_step(
    known: Iterable[Transaction], effects: Iterable[Record]
) -> defaultdict[str, dict[Place, int]]:
    """For each key: step and part → position of its first effect in the journal.

    The step is told by its own key, else by its route; among steps of one route they count in
    order.
    """
    of_key = {name: (it, place) for it in known for name, place in _keys_of(it).items()}
    done: defaultdict[str, dict[Place, int]] = defaultdict(dict)
    for effect in effects:
        it, place = of_key.get(effect["key"], (None, None))
        if it is None:
            continue
        if place is None:
            call = f"{effect['method']} {effect['path']}"
            fitting = [k for k, route in enumerate(it.routes, 1) if _pattern(route).match(call)]
            fresh = [k for k in fitting if (k, 0) not in done[it.key]]
            place = ((fresh or fitting or [0])[0], 0)
        done[it.key].setdefault(place, effect["seq"])
    return done


@lru_cache(maxsize=4096)
def _pattern(route: str) -> re.Pattern[str]:
    """What the calls of a route look like at the provider: any base path, no query."""
    method, _, path = route.partition("?")[0].partition(" ")
    places = [re.escape(it) for it in REFERENCE.sub("\0", path).split("\0")]
    return re.compile(f"{method} .*{'[^/]+'.join(places)}$")
