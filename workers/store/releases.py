"""Which releases of Redis and Valkey are known to be unsafe.

The table is made by hand from the servers' release notes, and is as old as this release of
Headgate. A release that it does not count as unsafe may be unsafe all the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from workers.store.embedded import packaged_binary

if TYPE_CHECKING:
    from collections.abc import Mapping

Version = tuple[int, int, int]

#: Server → the first release of each line in which no way is known to run code on the server.
#: They mend, among others, CVE-2025-49844, -46817, -46818 and -46819 (Lua), CVE-2026-23479 (a
#: blocked client), CVE-2026-25243 (RESTORE), CVE-2026-23631 (Lua) and, by TLS, CVE-2026-81934 of
#: Redis and CVE-2026-56684 of Valkey. What counts in a cluster alone is left out, for Headgate uses
#: none. A line that is missing and older than the newest, such as Redis 8.0, got no release with
#: all of them.
LEAST_SAFE: Final[dict[str, tuple[Version, ...]]] = {
    "redis": (
        (7, 2, 16), (7, 4, 11), (8, 2, 9), (8, 4, 6), (8, 6, 6), (8, 8, 2), (8, 10, 1),
    ),
    "valkey": ((7, 2, 14), (8, 0, 10), (8, 1, 9), (9, 0, 5), (9, 1, 1)),
}  # fmt: skip


def server_of(info: Mapping[str, Any]) -> tuple[str, str]:
    """Which server it is, and its release, from INFO server."""
    kind = "valkey" if "valkey_version" in info else "redis"
    return kind, str(info.get(f"{kind}_version", "unknown"))


def unsafe_sentence(info: Mapping[str, Any], *, embedded: bool = False) -> str:
    """Say that the server is known to be unsafe, and what to do; "" where it is not."""
    kind, release = server_of(info)
    least = least_safe(kind, release)
    if least is None:
        return ""
    newer = f"use {'.'.join(map(str, least))} or a newer one"
    # The embedded store's server may also be one of the machine.
    is_packaged = embedded and info.get("executable") == packaged_binary()
    remedy = "update Headgate, which brings it along" if is_packaged else newer
    return (
        f"{kind} {release} is known to be unsafe, for somebody who may use it could run code on "
        f"its machine; {remedy}"
    )


def least_safe(kind: str, release: str) -> Version | None:
    """Find the release that is needed in place of an unsafe one, None where it is not unsafe."""
    digits = re.match(r"(\d+)\.(\d+)\.(\d+)", release)
    safe = LEAST_SAFE.get(kind, ())
    if digits is None or not safe:
        return None
    major, minor, patch = map(int, digits.groups())
    version = (major, minor, patch)
    for least in safe:
        if least[:2] >= version[:2]:
            return least if version < least else None
    return None  # newer than all of them
