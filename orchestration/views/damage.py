"""What is stored of a client and cannot be read, named for people: keys, fields and definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestration.views.progress import iso
from workers.errors import SchemaUnknown
from workers.governor import flows
from workers.governor.failures import is_evidence
from workers.governor.state import GovernorState
from workers.ledger.job import Job
from workers.store.connection import store_now_us
from workers.store.hashes import read_hashes
from workers.store.reading import is_number, number_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.clients import Client

#: Keys of which each client has one: stored name → type, as the store calls it.
_KINDS: Final = {
    **dict.fromkeys(("gov", "flows", "overrides", "bound", "evidence", "healthy"), "hash"),
    **dict.fromkeys(("oauth", "damaged", "unconnected"), "hash"),
    **dict.fromkeys(("deadlines", "reclaimed", "retries", "quarantine", "permits", "jobs"), "zset"),
    **dict.fromkeys(("active", "needs_page"), "set"),
    **dict.fromkeys(("dead", "attempts", "audit", "refusals"), "stream"),
    "oauth:lock": "string",
}
#: Fields of a breaker that hold a number.
_OF_BREAKER: Final = {"opened_us", "due_us", "ordered_us", "every_us", "probes", "good"}
#: Keys whose types are looked at in one round trip.
_AT_ONCE: Final = 500


def find_damage(client: Client) -> list[str]:
    """What a person should look at, one sentence each, by its name behind the client's prefix."""
    return [
        *_wrong_types(client),
        *_wrong_numbers(client),
        *_wrong_texts(client),
        *_wrong_jobs(client),
        *_set_aside(client),
    ]


def _wrong_types(client: Client) -> Iterator[str]:
    store, keys = client.store, client.keys
    expected = {f"{keys.prefix}{name}": kind for name, kind in _KINDS.items()}
    expected |= {keys.job(job): "hash" for job in _members(client, "zset", keys.jobs)}
    for flow in _members(client, "set", keys.active):
        expected |= {keys.backlog(flow): "list", f"{keys.backlog(flow)}:due": "zset"}
    scopes = _hash(client, keys.governor)
    expected |= {
        keys.breaker(field.removeprefix("k:")): "hash" for field in scopes if field[:2] == "k:"
    }
    names = list(expected)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        pipe = store.pipeline(transaction=False)
        for name in some:
            pipe.type(name)
        for name, kind in zip(some, pipe.execute(), strict=True):
            if kind not in {expected[name], "none"}:
                short = name.removeprefix(keys.prefix)
                yield f"{short} is a {kind}, not a {expected[name]}"


def _wrong_numbers(client: Client) -> Iterator[str]:
    keys = client.keys
    state = GovernorState(_hash(client, keys.governor), store_now_us(client.store))
    yield from (f"field {field} of gov is no number" for field in state.damaged())
    for scope in state.open_breakers:
        breaker = _hash(client, keys.breaker(scope))
        for field in _OF_BREAKER & breaker.keys():
            if not is_number(breaker[field]):
                yield f"field {field} of breaker:{scope} is no number"


def _wrong_texts(client: Client) -> Iterator[str]:
    keys = client.keys
    for flow, definition in _hash(client, keys.flows).items():
        if not flows.is_whole(definition):
            yield f"field {flow} of flows is no definition"
    for scope, text in _hash(client, keys.evidence).items():
        if not is_evidence(text):
            yield f"field {scope} of evidence cannot be read"


def _wrong_jobs(client: Client) -> Iterator[str]:
    keys = client.keys
    names = [str(job) for job in _members(client, "zset", keys.jobs)]
    for name, stored in zip(names, read_hashes(client.store, [*map(keys.job, names)]), strict=True):
        try:
            is_whole = Job.from_hash(name, stored) is not None
        except SchemaUnknown:
            continue
        except (AttributeError, TypeError, ValueError):
            is_whole = False
        if not is_whole:
            yield f"job:{name} is missing, or cannot be read"


def _set_aside(client: Client) -> Iterator[str]:
    """What was noted as damaged by who met it."""
    for name, note in sorted(_hash(client, client.keys.damaged).items()):
        seen_us, _, why = note.partition(" ")
        yield f"{name}: {why}, seen {iso(number_of(seen_us))}"


def _hash(client: Client, name: str) -> dict[str, str]:
    """A hash; one of a wrong type is as one that is not there."""
    return read_hashes(client.store, [name])[0]


def _members(client: Client, kind: str, name: str) -> list[str]:
    """The members of a set or sorted set; none where it is of a wrong type."""
    if client.store.type(name) != kind:
        return []
    members = client.store.smembers(name) if kind == "set" else client.store.zrange(name, 0, -1)
    return sorted(members)  # type: ignore[arg-type]
