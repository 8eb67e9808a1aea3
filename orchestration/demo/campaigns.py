"""The demo of campaigns: ten of them with their contacts, at a provider that loses answers.

It remembers no keys, so what is made twice stays there twice. Its journal is asked what came of it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestration.demo.stage import CONCURRENCY, EVERY_S, WORKERS, effects_of, moving, staged
from orchestration.views.progress import snapshot
from tasks.genesys.campaigns import child_of
from workers.governor.flows import LANES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from orchestration.intake.campaign_contacts import Loads
    from orchestration.views.progress import Progress
    from workers.clients import Client

#: Campaigns, and contacts of each.
CAMPAIGNS: Final = 10
CONTACTS: Final = 2_000
_WRITES: Final = "POST /api/v2/outbound/*"


def _lost(kind: str, every: int) -> dict[str, Any]:
    once = {"when": {"every": every}, "per_business_id_times": 1}
    return {"match": _WRITES, "kind": kind, **once}


#: What the provider enforces, and what it does wrong.
PROVIDER: Final = {
    "limits": [{"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}],
    "latency_ms": 80,
    "strict_fields": True,
    "strict_lists": True,
    "idempotency": "off",
    "read_lag_s": 0.5,
    "faults": [_lost("drop_after", 5), _lost("5xx_after", 7), _lost("5xx_before", 11)],
}


@dataclass(frozen=True, slots=True)
class Look:
    """How far all of it is."""

    campaigns: Progress
    contacts: int  #: that are to be loaded
    loaded: int  #: and of these have ended

    @property
    def ended(self) -> int:
        """What has come to its end."""
        return self.campaigns.ended + self.loaded

    def __str__(self) -> str:
        it = self.campaigns
        return (
            f"{it.job}  {it.state}  {it.ended} of {it.rows} campaigns  "
            f"{self.loaded:,} of {self.contacts:,} contacts"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What became of the campaigns: the ledger's word, and the journal's."""

    last: Progress
    contacts: int  #: in all files
    requests: int  #: calls that reached the provider
    faults: dict[str, int]  #: how often it did something wrong, by kind
    made: dict[str, int]  #: lists, campaigns and starts that it executed
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
            and set(self.made.values()) == {self.last.rows}
            and self.queued == self.contacts
        )


def run(
    folder: Path,
    watch: Callable[[Iterable[Look]], Look],
    say: Callable[[str], None],
    contacts: int = CONTACTS,
) -> Summary:
    """Run the demo in `folder`, which it fills; whatever it started has ended when this returns.

    Args:
        folder: An empty folder.
        watch: Shows how far it is, and returns the last look.
        say: Told what happens, one line at a time.
        contacts: Of each campaign.

    Raises:
        HeadgateError: it could not come to its end.
    """
    file = _write(folder, contacts)
    with staged(folder, PROVIDER) as it:
        say(f"a provider of 200 calls/s that remembers no key and loses answers: {it.sandbox.url}")
        say(f"two workers of {CONCURRENCY} threads: {' and '.join(WORKERS)}, and a store")
        job, loads, calls = _submit(it.client, file)
        its = f"{CAMPAIGNS} campaigns, {loads.rows:,} contacts"
        say(f"submitted {file.name}: {its}, {calls:,} calls")
        last = watch(moving(_looks(it.client, job, loads.rows), it.workers, it.folder))
        return _summary(last.campaigns, loads, it.sandbox.get("report"), effects_of(it.sandbox))


def _write(folder: Path, contacts: int) -> Path:
    """The definitions and their contacts, as a user would have them."""
    rows = []
    for number in range(1, CAMPAIGNS + 1):
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
    """What `headgate submit campaigns` does; returns the job, its contacts, and all calls."""
    # Late: the tasks behind it read the configuration, which must be the demo's own.
    from orchestration.intake import Submission, check
    from orchestration.intake.campaign_contacts import accept_all, loads_of
    from orchestration.intake.readers.campaigns import CampaignOptions
    from orchestration.kinds import find_kind

    normal = LANES.index("normal")
    submission = Submission(client=client, path=file, lane=normal, options=CampaignOptions())
    kind = find_kind("campaigns")
    with check(kind, submission) as checked:
        loads = loads_of(submission, checked)
        job = accept_all(kind, submission, checked).job
        return job, loads, checked.calls + loads.calls


def _looks(client: Client, job: str, contacts: int) -> Iterator[Look]:
    children = [child_of(client.key(job, row["id"])) for row in client.ledger.rows(job)]
    while True:
        campaigns = snapshot(client, job)
        loaded = sum(child.ended for child in client.ledger.jobs(children) if child)
        yield Look(campaigns, contacts, loaded)
        if campaigns.state == "finished":
            return
        time.sleep(EVERY_S)


def _summary(
    last: Progress, loads: Loads, report: dict[str, Any], effects: list[dict[str, Any]]
) -> Summary:
    made, contacts = Counter[str](), Counter[str]()
    for it in effects:
        path = it["path"]
        if path.endswith("/contacts"):
            contacts[it["business_id"]] += 1
        elif path.startswith("/api/v2/outbound/"):
            made["starts" if path.endswith("/start") else path.rpartition("/")[2]] += 1
    return Summary(
        last=last,
        contacts=loads.rows,
        requests=report["requests"],
        faults=report["by_fault"],
        made=dict(made),
        queued=report["queued"],
        throttled=report["refused_429"],
        lost=loads.rows - len(contacts),
        duplicates=report["duplicates"] + report["queued_again"],
    )
