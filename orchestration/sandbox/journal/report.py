"""The totals of a journal."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from orchestration.sandbox.journal.windows import windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestration.sandbox.config.config import Limit
    from orchestration.sandbox.journal.journal import Entry
    from orchestration.sandbox.quota.limits import Scope

#: How many examples a list in the report holds.
EXAMPLES = 20


def report(
    entries: Sequence[Entry], limits: Sequence[Limit], others: Mapping[Scope, list[int]]
) -> dict[str, Any]:
    """Count what happened.

    Args:
        entries: Of the journal.
        limits: In force.
        others: Arrivals of the accepted calls of other senders, us since the Unix epoch.

    Returns:
        A JSON object. Token requests count in `token_requests` alone; what came to the host of
        the signed URLs is in `transfers`, in `by_fault`, and with its effects as any other.

        - `requests`, `by_status` (as text; "0": no answer), `by_kind`, `by_fault`
        - `effects` (made or changed), `updates` (changed), `repeats`, `replays`, `refused_429`
        - `duplicates`: effects on the same method, path and business id beyond the first one, and
          `duplicate_list`: up to 20 of `[method, path, business_id, effects]`
        - `several_keys`: business ids whose effects or repeats came under more than one key, and
          `several_keys_list`: up to 20 of `[method, path, business_id, keys]`
        - `queued`: times that a contact was put into the queue to be dialled; `queued_again`: those
          beyond the first of each contact of a list, and `queued_again_list`: up to 20 of
          `[path, contact, times]`
        - `per_second`: `[second since the Unix epoch, accepted, refused]`
        - `windows`: for each limit the most calls that one scope had in any sliding window of its
          length, or at once where the shape is `concurrent`: `max_accepted` without the refused
          ones, `max_arrived` with them; `refused`: by this limit. Where another sender has a share
          of it (`other_share`) also `left`: `[start_us, left, accepted, refused]` for each of the
          limit's windows, from the first call of a scope to its last, where `left` is `count`
          without the other's accepted calls (known only since this process started); the windows
          of a bucket or a sliding window are a grid from the first call. The use of what is left is
          the sum of `accepted` by that of `left`, without the first and the last window
        - `transfers`: `requests`, `by_status`, `files` (places that a file arrived at), `bytes` (of
          all that arrived), `leaks` (requests that brought credentials of the API)
        - `token_requests` per client, `first_t_us`, `last_t_us`
    """
    acts = [entry for entry in entries if entry.kind != "token"]
    calls = [entry for entry in acts if not entry.host]
    by_kind = Counter(entry.kind for entry in calls)
    return {
        "requests": len(calls),
        "by_status": _ordered(str(entry.status) for entry in calls),
        "by_kind": dict(sorted(by_kind.items())),
        "by_fault": _ordered(entry.fault for entry in acts if entry.fault),
        "effects": sum(len(entry.created) + len(entry.updated) for entry in acts),
        "updates": sum(len(entry.updated) for entry in acts),
        "repeats": sum(len(entry.repeated) for entry in acts),
        "replays": by_kind["replay"],
        "refused_429": by_kind["refused"],
        **_doubles(acts),
        **_queue(calls),
        "per_second": _per_second(calls),
        "windows": windows(calls, limits, others),
        "transfers": _transfers([entry for entry in acts if entry.host]),
        "token_requests": _ordered(entry.client for entry in entries if entry.kind == "token"),
        "first_t_us": min((entry.t_us for entry in calls), default=None),
        "last_t_us": max((entry.t_us for entry in calls), default=None),
    }


def _ordered(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _doubles(calls: list[Entry]) -> dict[str, Any]:
    effects: Counter[tuple[str, str, str]] = Counter()
    keys: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for entry in calls:
        for name in entry.created + entry.updated:
            effects[entry.method, entry.path, name] += 1
        for name in entry.created + entry.updated + entry.repeated:
            keys[entry.method, entry.path, name].add(entry.key)
    doubles = [[*thing, count] for thing, count in effects.items() if count > 1]
    rekeyed = [[*thing, len(used)] for thing, used in keys.items() if len(used) > 1]
    return {
        "duplicates": effects.total() - len(effects),
        "duplicate_list": doubles[:EXAMPLES],
        "several_keys": len(rekeyed),
        "several_keys_list": rekeyed[:EXAMPLES],
    }


def _queue(calls: list[Entry]) -> dict[str, Any]:
    times = Counter((entry.path, name) for entry in calls for name in entry.queued)
    again = [[*contact, count] for contact, count in times.items() if count > 1]
    return {
        "queued": times.total(),
        "queued_again": times.total() - len(times),
        "queued_again_list": again[:EXAMPLES],
    }


def _transfers(entries: list[Entry]) -> dict[str, Any]:
    arrived = [entry for entry in entries if entry.md5]
    return {
        "requests": len(entries),
        "by_status": _ordered(str(entry.status) for entry in entries),
        "files": len({(it.path, it.created + it.updated + it.repeated) for it in arrived}),
        "bytes": sum(entry.size for entry in arrived),
        "leaks": sum(entry.kind == "leak" for entry in entries),
    }


def _per_second(calls: list[Entry]) -> list[list[int]]:
    seconds: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for entry in calls:
        if entry.kind != "unauthorised":
            seconds[entry.t_us // 1_000_000][entry.kind == "refused"] += 1
    return [[second, *counts] for second, counts in sorted(seconds.items())]
