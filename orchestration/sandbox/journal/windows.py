"""What each limit had to bear, from the journal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from orchestration.sandbox.genesys.routes import template
from orchestration.sandbox.quota.limits import matcher, scope_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestration.sandbox.config.config import Limit
    from orchestration.sandbox.journal.journal import Entry
    from orchestration.sandbox.quota.limits import Scope


def windows(
    calls: Sequence[Entry], limits: Sequence[Limit], others: Mapping[Scope, list[int]]
) -> list[dict[str, Any]]:
    """Return one object a limit, as `report.report` tells; `others` as `Limiter.others` does."""
    return [_window(calls, limit, others) for limit in limits]


def _window(
    calls: Sequence[Entry], limit: Limit, others: Mapping[Scope, list[int]]
) -> dict[str, Any]:
    pattern = matcher(limit.match)
    arrived: dict[Scope, list[Entry]] = defaultdict(list)
    for entry in calls:
        if entry.kind != "unauthorised" and pattern.match(f"{entry.method} {entry.path}"):
            scope = scope_of(limit, entry.client, entry.method, template(entry.path))
            arrived[scope].append(entry)
    accepted = [[it for it in entries if it.kind != "refused"] for entries in arrived.values()]
    found = {
        "name": limit.name,
        "shape": limit.shape,
        "count": limit.count,
        "window_s": limit.window_s,
        "max_accepted": max((_most(entries, limit) for entries in accepted), default=0),
        "max_arrived": max((_most(entries, limit) for entries in arrived.values()), default=0),
        "refused": sum(it.refused_by == limit.name for it in calls),
    }
    if limit.other_share:
        found["left"] = [
            row
            for scope, entries in arrived.items()
            for row in _left(entries, limit, others.get(scope, []))
        ]
    return found


def _most(entries: list[Entry], limit: Limit) -> int:
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


def _most_at_once(entries: list[Entry]) -> int:
    """Return the most calls that were in work at one moment."""
    # An end goes before a start of the same microsecond: its place was free by then.
    steps = [(entry.t_us, 1) for entry in entries]
    steps += [(entry.t_us + max(1, entry.work_us), -1) for entry in entries]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def _left(entries: list[Entry], limit: Limit, others_us: list[int]) -> list[list[int]]:
    """Return `[start_us, left, accepted, refused]` for each window in which a call was counted."""
    width_us = round(limit.window_s * 1e6)
    ours = [
        (it.t_us, "accepted" if it.kind != "refused" else "refused")
        for it in entries
        if it.kind != "refused" or it.refused_by == limit.name
    ]
    moments = sorted(ours + [(time_us, "other") for time_us in others_us])
    rows: list[list[int]] = []
    for time_us, what in moments:
        if not rows:
            start_us = time_us - time_us % width_us if limit.align == "epoch" else time_us
            rows.append([start_us, limit.count, 0, 0])
        elif (passed_us := time_us - rows[-1][0]) >= width_us:
            start_us = time_us if limit.align == "call" else time_us - passed_us % width_us
            rows.append([start_us, limit.count, 0, 0])
        match what:
            case "other":
                rows[-1][1] -= 1
            case "accepted":
                rows[-1][2] += 1
            case _:
                rows[-1][3] += 1
    return rows
