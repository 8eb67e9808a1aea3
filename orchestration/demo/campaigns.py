"""The demo of campaigns: ten of them with their contacts, at a provider that loses answers.

The provider remembers no keys, so what is made twice stays there twice. At the end the demo asks
its journal what it has made.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestration.demo.stage import (
    CONCURRENCY,
    LOOK_EVERY_S,
    WORKERS,
    read_effects,
    require_movement,
    set_stage,
)
from orchestration.intake import Submission, accept, check
from orchestration.intake.readers.campaigns import CampaignOptions
from orchestration.kinds import find_kind
from orchestration.views.progress import snapshot
from tasks.genesys.campaigns import child_of
from workers.governor.flows import LANES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from orchestration.intake.submission import Loads
    from orchestration.sandbox.process import SandboxControl
    from orchestration.views.progress import Progress
    from workers.clients import Client

#: Campaigns, and contacts of each.
_CAMPAIGN_COUNT: Final = 10
_CONTACT_COUNT: Final = 2_000
_WRITES: Final = "POST /api/v2/outbound/*"


def _lose(kind: str, every: int) -> dict[str, Any]:
    once = {"when": {"every": every}, "per_business_id_times": 1}
    return {"match": _WRITES, "kind": kind, **once}


#: What the provider enforces, and what it does wrong.
_PROVIDER: Final = {
    "limits": [{"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}],
    "latency_ms": 80,
    "strict_fields": True,
    "strict_lists": True,
    "idempotency": "off",
    "read_lag_s": 0.5,
    "faults": [_lose("drop_after", 5), _lose("5xx_after", 7), _lose("5xx_before", 11)],
}


@dataclass(frozen=True, slots=True)
class CampaignsLook:
    """How far the campaigns and their contacts are."""

    campaigns: Progress
    contacts: int  #: all that are to be loaded
    loaded: int  #: those of them that have ended

    @property
    def ended(self) -> int:
        """Campaigns and contacts that have ended."""
        return self.campaigns.ended + self.loaded

    def __str__(self) -> str:
        look = self.campaigns
        return (
            f"{look.job}  {look.state}  {look.ended} of {look.rows} campaigns  "
            f"{self.loaded:,} of {self.contacts:,} contacts"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignsSummary:
    """What the ledger and the provider's journal say of the campaigns."""

    last: Progress
    contacts: int  #: in all files
    requests: int  #: calls that reached the provider
    faults: dict[str, int]  #: how often it did something wrong, by kind
    executed: dict[str, int]  #: lists, campaigns and starts that it executed
    queued: int  #: contacts that wait to be called
    throttled: int  #: answers of 429
    lost: int  #: contacts that it never got
    duplicates: int  #: what was made or queued once more

    @property
    def confirmed(self) -> bool:
        """Whether the journal agrees: each campaign and each contact once, nothing refused."""
        return (
            not (self.throttled or self.lost or self.duplicates)
            and self.last.all_succeeded
            and set(self.executed.values()) == {self.last.rows}
            and self.queued == self.contacts
        )


def run_campaigns(
    folder: Path,
    watch: Callable[[Iterable[CampaignsLook]], CampaignsLook],
    say: Callable[[str], None],
    contacts: int = _CONTACT_COUNT,
) -> CampaignsSummary:
    """Run the demo in `folder`, which it fills; all that it starts has ended when this returns.

    Args:
        folder: An empty folder.
        watch: Shows how far the demo is, and returns the last look.
        say: Called with each thing that happens, one line at a time.
        contacts: How many each campaign has.

    Raises:
        HeadgateError: the demo could not come to its end.
    """
    file = _write(folder, contacts)
    with set_stage(folder, _PROVIDER) as stage:
        url = stage.sandbox.url
        say(f"a provider of 200 calls/s that remembers no key and loses answers: {url}")
        say(f"two workers of {CONCURRENCY} threads: {' and '.join(WORKERS)}, and a store")
        job, loads, calls = _submit(stage.client, file)
        counts = f"{_CAMPAIGN_COUNT} campaigns, {loads.rows:,} contacts, {calls:,} calls"
        say(f"submitted {file.name}: {counts}")
        looks = _follow(stage.client, job, loads.rows)
        last = watch(require_movement(looks, stage.workers, stage.folder))
        return _summarize(last.campaigns, loads, stage.sandbox)


def _write(folder: Path, contacts: int) -> Path:
    """Write the definitions and their contacts, as a user would have them."""
    rows = []
    for number in range(1, _CAMPAIGN_COUNT + 1):
        name = f"town-{number}"
        lines = (
            f"{name}-{n},+1 {200 + n % 700} 555 01{n % 100:02},Town {number}\n"
            for n in range(contacts)
        )
        (folder / f"{name}.csv").write_text("customer,phone,town\n" + "".join(lines), "utf-8")
        campaign = {
            "name": f"Town {number}",
            "dialingMode": "agentless",
            "outboundLineCount": 5,
            "callerName": "Demo",
            "callerAddress": "+1 202 555 0100",
            "site": {"id": "demo-site"},
            "callAnalysisResponseSet": {"id": "demo-set"},
            "phoneColumns": [{"columnName": "phone", "type": "cell"}],
        }
        rows.append(
            {"id": name, "contacts": f"{name}.csv", "id_column": "customer", "campaign": campaign}
        )
    file = folder / "campaigns.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def _submit(client: Client, file: Path) -> tuple[str, Loads, int]:
    """Do what `headgate submit campaigns` does; returns the job, its contacts, and all calls."""
    normal = LANES.index("normal")
    submission = Submission(client=client, path=file, lane=normal, options=CampaignOptions())
    kind = find_kind("campaigns")
    with check(kind, submission) as checked:
        job = accept(kind, submission, checked).job
        return job, checked.loads, checked.calls + checked.loads.calls


def _follow(client: Client, job: str, contacts: int) -> Iterator[CampaignsLook]:
    children = [child_of(client.key(job, row["id"])) for row in client.ledger.rows(job)]
    while True:
        campaigns = snapshot(client, job)
        loaded = sum(child.ended for child in client.ledger.jobs(children) if child)
        yield CampaignsLook(campaigns, contacts, loaded)
        if campaigns.state == "finished":
            return
        time.sleep(LOOK_EVERY_S)


def _summarize(last: Progress, loads: Loads, sandbox: SandboxControl) -> CampaignsSummary:
    report = sandbox.get("report")
    executed, contacts = Counter[str](), Counter[str]()
    for effect in read_effects(sandbox):
        path = effect["path"]
        if path.endswith("/contacts"):
            contacts[effect["business_id"]] += 1
        elif path.startswith("/api/v2/outbound/"):
            executed["starts" if path.endswith("/start") else path.rpartition("/")[2]] += 1
    return CampaignsSummary(
        last=last,
        contacts=loads.rows,
        requests=report["requests"],
        faults=report["by_fault"],
        executed=dict(executed),
        queued=report["queued"],
        throttled=report["refused_429"],
        lost=loads.rows - len(contacts),
        duplicates=report["duplicates"] + report["queued_again"],
    )
