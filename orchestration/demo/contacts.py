"""The demo of contacts: a real CSV goes through real workers to a strict provider.

    folder ─ sandbox ─ store ─ submit contacts.csv ─ two workers ─ watch ─ ask the journal ─ stop

Everything lives in one folder and ends with the demo. Nothing of the user's configuration is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from typing import TYPE_CHECKING, Final

from orchestration.demo.stage import CONCURRENCY, WORKERS, read_effects, set_stage
from orchestration.intake import Submission, accept, check
from orchestration.intake.readers.contacts import ContactOptions
from orchestration.kinds import find_kind
from orchestration.sandbox.process import SandboxControl
from workers.errors import HeadgateError
from workers.governor.flows import LANES
from workers.settings.limits import bucket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from orchestration.intake import Checked
    from orchestration.views.progress import Progress
    from workers.clients import Client

#: The contact list of the demo.
_LIST: Final = "demo-contacts"
#: What the provider enforces and how long a call takes: the guide's numbers for Genesys Cloud.
_PROVIDER: Final = {
    "limits": [{"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}],
    "latency_ms": 80,
}
#: The steady part of a run: from which part of the executions to which.
_STEADY: Final = (0.15, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactsSummary:
    """What the ledger and the provider's journal say of the same rows."""

    last: Progress
    rejected: list[tuple[int, str]]  #: line and reason
    joined: int  #: rows that repeat an earlier one
    requests: int  #: calls that reached the provider
    effects: int  #: contacts that they made or changed
    calls_per_s: float  #: of the steady part
    use: float  #: part of the governed rate that these are
    throttled: int  #: answers of 429
    lost: int  #: accepted contacts that the provider never got
    duplicates: int  #: effects beyond the first one on a contact

    @property
    def confirmed(self) -> bool:
        """Whether the journal agrees: each good row once, nothing refused."""
        good = self.last.rows - self.last.counts["rejected"]
        return (
            not (self.throttled or self.lost or self.duplicates)
            and self.last.counts["succeeded"] == good
            and self.effects == good - self.joined
        )


def run_contacts(
    folder: Path,
    watch: Callable[[Iterable[Progress], Client], Progress],
    say: Callable[[str], None],
) -> ContactsSummary:
    """Run the demo in `folder`, which it fills; all that it starts has ended when this returns.

    Args:
        folder: An empty folder.
        watch: Shows the progress, and returns the last look.
        say: Called with each thing that happens, one line at a time.

    Raises:
        HeadgateError: the demo could not come to its end.
    """
    with set_stage(folder, _PROVIDER) as stage:
        say(f"a provider that allows 200 calls/s and takes 80 ms a call: {stage.sandbox.url}")
        say(f"two workers of {CONCURRENCY} threads: {' and '.join(WORKERS)}, and a store")
        job, checked = _submit(stage.client)
        say(f"submitted {checked.file}: {checked.rows:,} rows, {checked.calls:,} calls")
        last = watch(stage.looks(job), stage.client)
        return _summarize(stage.client, last, checked, stage.sandbox)


def run_contacts_on(
    client: Client, watch: Callable[[str], Progress], say: Callable[[str], None]
) -> ContactsSummary:
    """Run the demo through workers that run already, to the sandbox that `client` names.

    A second run is the same job: what was sent is not sent again, and the journal is asked anew.

    Args:
        client: Whose quota is used; its provider is a sandbox with a journal of its own.
        watch: Follows a job to its end, and returns the last look.
        say: Called with each thing that happens, one line at a time.

    Raises:
        HeadgateError: the provider is no sandbox, or the demo could not come to its end.
    """
    sandbox = SandboxControl(client.settings().base_url)
    try:
        sandbox.get("report")
    except (OSError, HTTPException, ValueError, TypeError):
        raise HeadgateError(
            f"client {client.name}: there is no sandbox at {sandbox.url}; name a client whose "
            f"provider is one, or leave out --client"
        ) from None
    job, checked = _submit(client)
    say(f"submitted {checked.file} as {job}: {checked.rows:,} rows, {checked.calls:,} calls")
    return _summarize(client, watch(job), checked, sandbox)


def _submit(client: Client) -> tuple[str, Checked]:
    """Do what `headgate submit contacts` does with the shipped file; returns the job."""
    with resources.as_file(resources.files("orchestration.demo") / "contacts.csv") as csv:
        submission = Submission(
            client=client,
            path=csv,
            lane=LANES.index("normal"),
            options=ContactOptions(
                contact_list=_LIST,
                id_column="contact_id",
                phone_column="phone",
                batch_size=1,  # 5,000 contacts would be 5 calls, and show no rate
            ),
        )
        kind = find_kind("contacts")
        with check(kind, submission) as checked:
            return accept(kind, submission, checked).job, checked


def _summarize(
    client: Client, last: Progress, checked: Checked, sandbox: SandboxControl
) -> ContactsSummary:
    """Compare the rows of the file with the effects in the provider's journal."""
    report, effects = sandbox.get("report"), read_effects(sandbox)
    rows = client.ledger.rows(last.job)
    sent = {row["id"] for row in rows if "error" not in row}
    rates = [bucket_of(limit).rate or math.inf for limit in client.settings().limits]
    calls_per_s = _steady_rate(sorted(effect["t_us"] for effect in effects))
    return ContactsSummary(
        last=last,
        rejected=checked.reasons,
        joined=checked.joined,
        requests=report["requests"],
        effects=report["effects"],
        calls_per_s=calls_per_s,
        use=calls_per_s / min(rates),
        throttled=report["refused_429"],
        lost=len(sent - {effect["business_id"] for effect in effects}),
        duplicates=report["duplicates"],
    )


def _steady_rate(moments_us: list[int]) -> float:
    """Executions per second in the steady part, 0.0 when there are too few."""
    first, last = (int(part * (len(moments_us) - 1)) for part in _STEADY)
    if last <= first:
        return 0.0
    return (last - first) * 1e6 / max(1, moments_us[last] - moments_us[first])
