"""What each limit had to bear, measured from the journal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from orchestration.sandbox.config import compile_glob
from orchestration.sandbox.platforms import route_of
from orchestration.sandbox.quota import scope_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestration.sandbox.config import JsonObject, Limit
    from orchestration.sandbox.journal.entry import JournalEntry
    from orchestration.sandbox.quota import LimitScope


def measure_windows(
    calls: Sequence[JournalEntry],
    limits: Sequence[Limit],
    others_us: Mapping[LimitScope, list[int]],
) -> list[JsonObject]:
    """Return one object a limit.

    Args:
        calls: Entries of calls to the API, without token requests.
        limits: In force.
        others_us: Arrivals of the accepted calls of other senders, us since the Unix epoch.

    Returns:
        For each limit its `name`, `shape`, `count` and `window_s`, and

        - `max_accepted`, `max_arrived`: the most calls that one scope had in any sliding window of
          its length, or at once where the shape is `concurrent`, without and with the refused ones
        - `refused`: calls that this limit refused
        - `left`, only where another sender has a share (`other_share`): `[start_us, left, accepted,
          refused]` for each of the limit's windows, from the first call of a scope to its last.
          There `left` is `count` without the other's accepted calls, which are known only since
          this process started. The windows of a bucket or a sliding window are a grid from the
          first call. The use of what is left is the sum of `accepted` divided by that of `left`,
          without the first and the last window
    """
    return [_measure(calls, limit, others_us) for limit in limits]


def _measure(
    calls: Sequence[JournalEntry], limit: Limit, others_us: Mapping[LimitScope, list[int]]
) -> JsonObject:
    pattern = compile_glob(limit.match)
    arrived: dict[LimitScope, list[JournalEntry]] = defaultdict(list)
    for entry in calls:
        if entry.kind != "unauthorised" and pattern.match(f"{entry.method} {entry.path}"):
            scope = scope_of(limit, entry.client, entry.method, route_of(entry.path))
            arrived[scope].append(entry)
    accepted = [
        [entry for entry in entries if entry.kind != "refused"] for entries in arrived.values()
    ]
    window: JsonObject = {
        "name": limit.name,
        "shape": limit.shape,
        "count": limit.count,
        "window_s": limit.window_s,
        "max_accepted": max((_most(entries, limit) for entries in accepted), default=0),
        "max_arrived": max((_most(entries, limit) for entries in arrived.values()), default=0),
        "refused": sum(entry.refused_by == limit.name for entry in calls),
    }
    if limit.other_share:
        window["left"] = [
            row
            for scope, entries in arrived.items()
            for row in _count_left(entries, limit, others_us.get(scope, []))
        ]
    return window


def _most(entries: list[JournalEntry], limit: Limit) -> int:
    if limit.shape == "concurrent":
        return _most_at_once(entries)
    return _most_within([entry.t_us for entry in entries], round(limit.window_s * 1e6))


def _most_within(times_us: list[int], width_us: int) -> int:
    """Return the most times in any half-open stretch of `width_us`."""
    times_us.sort()
    most = first = 0
    for last, time_us in enumerate(times_us):
        while times_us[first] + width_us <= time_us:
            first += 1
        most = max(most, last - first + 1)
    return most


def _most_at_once(entries: list[JournalEntry]) -> int:
    """Return the most calls that were in work at one moment."""
    # An end sorts before a start of the same microsecond: its permit was free by then.
    steps = [(entry.t_us, 1) for entry in entries]
    steps += [(entry.t_us + max(1, entry.work_us), -1) for entry in entries]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def _count_left(entries: list[JournalEntry], limit: Limit, others_us: list[int]) -> list[list[int]]:
    """Return `[start_us, left, accepted, refused]` for each window in which a call was counted."""
    width_us = round(limit.window_s * 1e6)
    ours = [
        (entry.t_us, "accepted" if entry.kind != "refused" else "refused")
        for entry in entries
        if entry.kind != "refused" or entry.refused_by == limit.name
    ]
    moments = sorted(ours + [(time_us, "other") for time_us in others_us])
    rows: list[list[int]] = []
    for time_us, sender in moments:
        if not rows:
            start_us = time_us - time_us % width_us if limit.align == "epoch" else time_us
            rows.append([start_us, limit.count, 0, 0])
        elif (passed_us := time_us - rows[-1][0]) >= width_us:
            start_us = time_us if limit.align == "call" else time_us - passed_us % width_us
            rows.append([start_us, limit.count, 0, 0])
        match sender:
            case "other":
                rows[-1][1] -= 1
            case "accepted":
                rows[-1][2] += 1
            case _:
                rows[-1][3] += 1
    return rows
