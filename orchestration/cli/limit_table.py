"""What the governor makes of each limit, for `headgate config check` and `headgate limits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.settings.limits import bucket_of, other_versions, tenant_bucket, worst_case

if TYPE_CHECKING:
    from workers.settings.client import ClientSettings
    from workers.settings.limits import LimitSettings


def describe_limits(client: ClientSettings) -> list[dict[str, Any]]:
    """Each limit of the client and of its tenants, and what the governor makes of it.

    `rate_per_s` and `window_s` are None for a limit of calls at once; times are seconds. `also` is
    what other configurations in use say of the limit: the stricter one of each value holds.
    """
    of_tenants = [
        _describe(tenant, limit)
        for tenant, settings in client.tenants.items()
        for limit in settings.limits
    ]
    return [_describe(None, limit) for limit in client.limits] + of_tenants


def _describe(tenant: str | None, limit: LimitSettings) -> dict[str, Any]:
    bucket = tenant_bucket(tenant, limit) if tenant else bucket_of(limit)
    return {
        "name": bucket.name,
        "tenant": tenant,
        "count": limit.count,
        "window_s": None if bucket.rate is None else limit.window_s,
        "shape": limit.shape,
        "match": limit.match,
        "calibration": limit.calibration,
        "rate_per_s": None if bucket.rate is None else round(bucket.rate, 6),
        "burst": bucket.burst,
        "reserve": bucket.reserve,
        "lead_s": bucket.lead_us / 1e6,
        "spread_s": bucket.spread_us / 1e6,
        "worst_case": worst_case(limit),
        "also": other_versions(limit),
    }


def format_limit(limit: dict[str, Any]) -> list[str]:
    """One limit of `describe_limits` for people: what the provider says, and what follows."""
    count, name = f"{limit['count']:,}", f"limit {limit['name']:10}"
    if limit["shape"] == "concurrent":
        return [f"{name}  {count} at once, {limit['match']}{format_also(limit['also'])}"]
    window = f"{limit['window_s']:g} s"
    reserve = f", {limit['reserve']} of it for urgent" if limit["reserve"] else ""
    lead = f", bells ring {limit['lead_s'] * 1000:.0f} ms ahead" if limit["lead_s"] else ""
    stated = f"{count} per {window}, {limit['shape']}, {limit['calibration']}, {limit['match']}"
    stated += format_also(limit["also"])
    follows = f"{limit['rate_per_s']:.5g} calls/s, burst {limit['burst']:,}{reserve}{lead}"
    lines = [
        f"{name}  {stated}",
        f"{'':18}{follows}; at most {limit['worst_case']:,} in any {window}",
    ]
    if limit["worst_case"] > limit["count"]:
        note = "a bucket's burst comes on top of its rate; does the provider count windows?"
        lines.append(f"{'':18}{note}")
    return lines


def format_also(others: list[str]) -> str:
    """What other configurations in use say of a limit, for people; "" = nothing else."""
    return "".join(f"; another configuration says {other}" for other in others)
