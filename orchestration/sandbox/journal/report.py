"""The totals of a journal."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from orchestration.sandbox.journal.windows import measure_windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestration.sandbox.config import JsonObject, Limit
    from orchestration.sandbox.journal.entry import JournalEntry
    from orchestration.sandbox.quota import LimitScope

#: How many examples a list in the report holds.
EXAMPLES = 20


def build_report(
    entries: Sequence[JournalEntry],
    limits: Sequence[Limit],
    others_us: Mapping[LimitScope, list[int]],
) -> JsonObject:
    """Count what happened.

    Args:
        entries: Of the journal; the sequence must not change while this runs.
        limits: In force.
        others_us: Arrivals of the accepted calls of other senders, us since the Unix epoch.

    Returns:
        A JSON object. Token requests count in `token_requests` alone; what came to the host of
        the signed URLs is in `transfers`, in `by_fault`, and with its effects as any other.

        - `requests`, `by_status` (as text; "0": no answer), `by_kind`, `by_fault`
        - `effects` (created or changed), `updates` (changed), `repeats`, `replays`, `refused_429`
        - `duplicates`: effects on the same method, path and business id beyond the first one, and
          `duplicate_list`: up to 20 of `[method, path, business_id, effects]`
        - `several_keys`: business ids whose effects or repeats came under more than one key, and
          `several_keys_list`: up to 20 of `[method, path, business_id, keys]`
        - `queued`: times that a contact was put into the queue to be dialled; `queued_again`: those
          beyond the first of each contact of a list, and `queued_again_list`: up to 20 of
          `[path, contact, times]`
        - `per_second`: `[second since the Unix epoch, accepted, refused]`
        - `windows`: one object a limit, see `measure_windows`
        - `transfers`: `requests`, `by_status`, `files` (places that a file arrived at), `bytes` (of
          all that arrived), `leaks` (requests that brought credentials of the API)
        - `token_requests` per client, `first_t_us`, `last_t_us`
    """
    tokenless = [entry for entry in entries if entry.kind != "token"]
    calls = [entry for entry in tokenless if not entry.host]
    by_kind = Counter[str](entry.kind for entry in calls)
    return {
        "requests": len(calls),
        "by_status": _count(str(entry.status) for entry in calls),
        "by_kind": dict(sorted(by_kind.items())),
        "by_fault": _count(entry.fault for entry in tokenless if entry.fault),
        "effects": sum(len(entry.created) + len(entry.updated) for entry in tokenless),
        "updates": sum(len(entry.updated) for entry in tokenless),
        "repeats": sum(len(entry.repeated) for entry in tokenless),
        "replays": by_kind["replay"],
        "refused_429": by_kind["refused"],
        **_count_duplicates(tokenless),
        **_count_queued(calls),
        "per_second": _count_per_second(calls),
        "windows": measure_windows(calls, limits, others_us),
        "transfers": _count_transfers([entry for entry in tokenless if entry.host]),
        "token_requests": _count(entry.client for entry in entries if entry.kind == "token"),
        "first_t_us": min((entry.t_us for entry in calls), default=None),
        "last_t_us": max((entry.t_us for entry in calls), default=None),
    }


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _count_duplicates(calls: list[JournalEntry]) -> JsonObject:
    effects: Counter[tuple[str, str, str]] = Counter()
    keys: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for entry in calls:
        for name in entry.created + entry.updated:
            effects[entry.method, entry.path, name] += 1
        for name in entry.created + entry.updated + entry.repeated:
            keys[entry.method, entry.path, name].add(entry.key)
    duplicates = [[*target, count] for target, count in effects.items() if count > 1]
    rekeyed = [[*target, len(used)] for target, used in keys.items() if len(used) > 1]
    return {
        "duplicates": effects.total() - len(effects),
        "duplicate_list": duplicates[:EXAMPLES],
        "several_keys": len(rekeyed),
        "several_keys_list": rekeyed[:EXAMPLES],
    }


def _count_queued(calls: list[JournalEntry]) -> JsonObject:
    times = Counter((entry.path, name) for entry in calls for name in entry.queued)
    repeated = [[*contact, count] for contact, count in times.items() if count > 1]
    return {
        "queued": times.total(),
        "queued_again": times.total() - len(times),
        "queued_again_list": repeated[:EXAMPLES],
    }


def _count_transfers(entries: list[JournalEntry]) -> JsonObject:
    arrived = [entry for entry in entries if entry.md5]
    places = {(entry.path, entry.created + entry.updated + entry.repeated) for entry in arrived}
    return {
        "requests": len(entries),
        "by_status": _count(str(entry.status) for entry in entries),
        "files": len(places),
        "bytes": sum(entry.size for entry in arrived),
        "leaks": sum(entry.kind == "leak" for entry in entries),
    }


def _count_per_second(calls: list[JournalEntry]) -> list[list[int]]:
    seconds: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for entry in calls:
        if entry.kind != "unauthorised":
            seconds[entry.t_us // 1_000_000][entry.kind == "refused"] += 1
    return [[second, *counts] for second, counts in sorted(seconds.items())]
