"""What must hold of keys that grow old: one function each, returning violations.

`kept_short` and `only_explained` hold the sandbox's journal against it, which shares nothing with
Headgate; `explained` reads nothing but the audit and the attempts of the store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from orchestration.views.invariants import check_ledger, everything_ended
from orchestration.views.pages import transactions_of
from tests.support.journal import at_most_one_effect
from workers.ledger import audit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.support.journal import Record
    from workers.clients import Client
    from workers.ledger.audit import Entry

    #: Entries of the attempts with the moment of their stream, in ms, the oldest first.
    Told = Sequence[tuple[int, Mapping[str, str]]]

#: What is promised, said here once more: a changed constant must turn the soak red.
KEY_LIFE_S: Final = 23 * 3600
QUIET_S: Final = 600
MOST_KEYS: Final = 3

KEY_REFUSED: Final = "the provider takes it no more"
TOO_OLD: Final = "too old for the provider to remember it"
STATED: Final = "waiting, stated as not executed"


def check(
    client: Client, jobs: Iterable[str], requests: Iterable[Record], effects: Iterable[Record]
) -> list[str]:
    """Everything below, and what holds after every run."""
    names = {key: (job, row) for job in jobs for key, row in names_of(client, job).items()}
    found = [line for lines in check_ledger(client).values() for line in lines]
    found += [line for job in jobs for line in everything_ended(client, job)]
    found += at_most_one_effect(effects)
    found += kept_short(requests)
    found += only_explained(client, names, requests, rotations(client))

    settings = client.settings()
    found += explained(audit_of(client), told(client), settings.total_timeout_s, settings.lookups)
    return found


def kept_short(requests: Iterable[Record]) -> list[str]:
    """No key arrives later than 23 h after it first did, by the clock that forgets keys."""
    moments = arrivals(requests)
    return [
        f"key {key} arrived {(max(at) - min(at)) / 3.6e9:.2f} h after it first did"
        for key, at in moments.items()
        if max(at) - min(at) > KEY_LIFE_S * 1e6
    ]


def only_explained(
    client: Client,
    names: Mapping[str, tuple[str, str]],
    requests: Iterable[Record],
    made: Iterable[Entry],
) -> list[str]:
    """Each key that arrived is the first of a transaction or of a rotation, and derived.

    And the old key of a rotation was long silent, and no longer at the provider than it says.
    """
    moments = arrivals(requests)
    known, violations = set(names), list[str]()
    for it in made:
        job, row = names[it.key]
        generation, at_us = int(it.facts["generation"]), int(it.facts["us"])
        known.add(it.after)
        derived = [client.key(job, row, generation - more) for more in (1, 0)]
        if [it.before, it.after] != derived or job != it.facts["job"]:
            violations.append(f"{it.key}: the keys of its rotation {generation} are not derived")
        before, after = moments.get(it.before, []), moments.get(it.after, [])
        if before and int(it.facts["first_sent_us"]) > min(before):
            violations.append(f"{it.key}: was sent before the audit says so")
        if before and max(before) + QUIET_S * 1e6 > at_us:
            violations.append(f"{it.key}: arrived less than {QUIET_S} s before it was replaced")
        if after and min(after) < at_us:
            violations.append(f"{it.key}: its new key arrived before it was replaced")
    return violations + [f"key {key} arrived, which nobody made" for key in moments.keys() - known]


def _numbered(entries: Iterable[Entry]) -> list[str]:
    """Keys are numbered on, and of a step there are no more than `MOST_KEYS` before its replay."""
    generations, of_step = Counter[str](), Counter[tuple[str, str]]()
    violations = list[str]()
    for it in entries:
        if it.action == "dead replay":
            of_step = Counter({step: n for step, n in of_step.items() if step[0] != it.key})
        if it.action == "rotate key":
            generations[it.key] += 1
            of_step[it.key, it.subject] += 1
            number = int(it.facts["generation"])
            if number != generations[it.key] + 1 or of_step[it.key, it.subject] >= MOST_KEYS:
                violations.append(f"rotation of {it.key}, {it.subject}: it is generation {number}")
    return violations


def explained(entries: Iterable[Entry], tries: Told, timeout_s: float, lookups: int) -> list[str]:
    """Each rotation of the audit is a right one, by the audit and the attempts alone.

    Args:
        entries: The audit, the oldest first.
        tries: The attempts.
        timeout_s: So much before its time a key is too old already.
        lookups: With so many in vain it is believed that nothing was done.
    """
    stated_ms = dict[str, int]()
    of_key: dict[str, list[tuple[int, Mapping[str, str]]]] = defaultdict(list)
    for at_ms, one in tries:
        of_key[one["key"]].append((at_ms, one))
    entries = list(entries)
    violations = _numbered(entries)
    for it in entries:
        if it.action == "dead replay" and it.after == STATED:
            stated_ms[it.key] = it.at_ms
        if it.action != "rotate key":
            continue
        facts, wrong = it.facts, list[str]()
        at_us, sent_us = int(facts["us"]), int(facts["first_sent_us"])
        age_s = (at_us - sent_us) / 1e6
        if it.reason != KEY_REFUSED and (it.reason != TOO_OLD or age_s < KEY_LIFE_S - timeout_s):
            wrong.append(f"its key was {age_s:.0f} s old: {it.reason}")
        own = [
            one
            for _, one in of_key[it.key]
            if f"step {one['step']}" == it.subject and int(one["us"]) <= at_us
        ]
        sent = [one for one in own if one["what"] == "send"]
        heard_us = [int(one["us"]) for one in sent] + [int(facts["last_sent_us"] or 0)]
        if max(heard_us) + QUIET_S * 1e6 > at_us:
            wrong.append("its newest send was not long over")
        doubts = [
            one
            for at_ms, one in of_key[it.key]
            if one in own
            and (one["outcome"] == "unknown" or one["what"] == "look-up")
            and at_ms > stated_ms.get(it.key, 0)
        ]
        if doubts and not doubts[-1]["text"].startswith(f"look-up {lookups}, absent"):
            wrong.append(f"it may have been executed: {doubts[-1]}")
        if it.reason == KEY_REFUSED and (not own or own[-1]["outcome"] != "not_executed"):
            wrong.append("no attempt says that its key was refused")
        violations += [f"rotation {it.id} of {it.key}, {it.subject}: {one}" for one in wrong]
    return violations


def audit_of(client: Client) -> list[Entry]:
    """The whole audit, the oldest first."""
    return audit.read(client.store, client.keys, most=1_000_000)[::-1]


def rotations(client: Client) -> list[Entry]:
    """Those of the audit, the oldest first."""
    return [it for it in audit_of(client) if it.action == "rotate key"]


def told(client: Client) -> Told:
    """All attempts; read as they are, for `attempts.read` begins by the store's own clock."""
    found: Any = client.store.xrange(client.keys.attempts)
    return [(int(id_.partition("-")[0]), it) for id_, it in found]


def arrivals(requests: Iterable[Record]) -> dict[str, list[int]]:
    """When each key arrived, by the clock that forgets keys."""
    moments = defaultdict[str, list[int]](list)
    for it in requests:
        if it.get("key"):
            moments[it["key"]].append(it["t_us"] + it.get("ahead_us", 0))
    return dict(moments)


def names_of(client: Client, job: str) -> dict[str, str]:
    """The key of each transaction of a job → its row."""
    return {
        key: row["id"]
        for page in range(client.ledger.job(job).next_page)
        for row, key, _, _ in transactions_of(client, job, page)
    }


def name_of(step: Mapping[str, Any]) -> str:
    """The business id of a step of the soak."""
    if step["method"] == "GET":
        return f"GET {step['path']}"
    body = step["body"]
    name: str = body[0]["id"] if isinstance(body, list) else body["business_id"]
    return name
