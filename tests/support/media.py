"""Files for prompts and assets, and what the sandbox must have of them in the end."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from orchestration.intake import Submission, accept, check
from orchestration.intake.readers.media import MediaOptions
from orchestration.kinds import find_kind
from orchestration.views.invariants import check_ledger, everything_ended
from tasks.genesys.operations import OPERATIONS, operation_of
from tests.support import journal
from tests.support.faults.checks import assert_nothing_left
from workers.answer.guards import Guard
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fleet import Fleet

#: Reads are quick, and nothing is remembered by key, as on the platform.
GENESYS: dict[str, Any] = {"idempotency": "off"}
CLIENT: dict[str, Any] = {"idempotency": "none", "lookup_after_s": 0.3, "lookup_every_s": 0.4}


def folder(where: Path, count: int, size: int = 20_000, end: str = ".wav") -> Path:
    """A folder of files, each with a content of its own."""
    where.mkdir()
    for number in range(count):
        seed = hashlib.sha256(f"{where.name}{number}".encode()).digest()
        (where / f"f{number:03}{end}").write_bytes((seed * (size // 32 + 1))[:size])
    return where


def submit(fleet: Fleet, path: Path, kind: str = "prompts") -> str:
    """Submit a folder or manifest; returns the job."""
    it = Submission(client=fleet.client, path=path, lane=1, options=MediaOptions())
    with check(find_kind(kind), it) as checked:
        return accept(find_kind(kind), it, checked).job


def md5s(where: Path) -> Counter[str]:
    """The MD5 of each file of a folder."""
    return Counter(hashlib.md5(it.read_bytes()).hexdigest() for it in where.iterdir())  # noqa: S324


def arrived(fleet: Fleet) -> Counter[str]:
    """The MD5 of each file that took effect."""
    return Counter(it["md5"] for it in fleet.effects() if it.get("md5"))


def transfers(fleet: Fleet) -> list[dict[str, Any]]:
    """Every request at the host of signed URLs."""
    return [it for it in fleet.requests() if it.get("host") == "transfers"]


def only_known_operations(fleet: Fleet) -> None:
    """Every request to the API is a call of the table, with a key where it makes something."""
    for it in fleet.requests():
        if (
            it["kind"] == "token"
            or it.get("host") == "transfers"
            or it["path"].startswith("/things")
        ):
            continue
        name = operation_of(it["method"], it["path"])
        assert name, it
        assert bool(it.get("key")) is (OPERATIONS[name].guard is not Guard.READ), it


def check_media(fleet: Fleet, *jobs: str) -> None:
    """Nothing was made twice, nothing leaked, and the ledger is whole and at rest."""
    report = fleet.report()
    only_known_operations(fleet)
    found = [line for lines in check_ledger(fleet.client).values() for line in lines]
    found += [line for job in jobs for line in everything_ended(fleet.client, job)]
    limits = [LimitSettings(**limit) for limit in fleet.limits]
    found += journal.within_limits(report, limits)
    assert found == [], "\n".join(found)
    assert (report["duplicates"], report["transfers"]["leaks"]) == (0, 0), report
    assert_nothing_left(fleet)
