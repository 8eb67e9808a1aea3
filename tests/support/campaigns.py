"""Campaigns for a fleet: definitions with their contacts, and what the sandbox has of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from orchestration.cli import main
from tasks.genesys.campaigns import child_of

if TYPE_CHECKING:
    from click.testing import Result

    from tests.support.fleet import Fleet

#: A provider that honours no key and takes nothing that is not whole.
STRICT: dict[str, Any] = {"strict_fields": True, "strict_lists": True, "idempotency": "off"}
#: So the last of three looks comes 1.1 s after the send.
KEYLESS: dict[str, Any] = {
    "idempotency": "none",
    "lookup_after_s": 0.3,
    "lookups": 3,
    "lookup_every_s": 0.4,
}


def definition(name: str, **more: Any) -> dict[str, Any]:
    """A line of a file of campaigns."""
    return {
        "id": name,
        "contacts": f"{name}.csv",
        "id_column": "customer",
        "campaign": {
            "name": f"Campaign {name}",
            "dialingMode": "agentless",
            "outboundLineCount": 5,
            "callerName": "Acme",
            "callerAddress": "+15550100",
            "site": {"id": "site-1"},
            "callAnalysisResponseSet": {"id": "set-1"},
            "phoneColumns": [{"columnName": "phone", "type": "cell"}],
        },
        **more,
    }


def write(fleet: Fleet, rows: list[dict[str, Any]], contacts: int) -> str:
    """The files of these definitions, so many contacts each; returns the path of the first."""
    for row in rows:
        name = row["id"]
        lines = (f"{name}-{n},+1555{n:07}\n" for n in range(contacts))
        (fleet.folder / f"{name}.csv").write_text("customer,phone\n" + "".join(lines))
    file = fleet.folder / "campaigns.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def run(fleet: Fleet, *args: str) -> Result:
    """What `headgate ARGS` does in this process."""
    return CliRunner(env=fleet.environment).invoke(main, [*args], catch_exceptions=False)


def submit(fleet: Fleet, file: str, *options: str) -> dict[str, Any]:
    """Submit a file of campaigns; returns what the command answers."""
    result = run(fleet, "submit", "campaigns", file, "--client", "acme", "--json", *options)
    assert result.exit_code == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def children(fleet: Fleet, job: str) -> dict[str, str]:
    """Row → the job of its contacts."""
    return {row: child_of(key) for row, key in fleet.keys(job).items()}


def at_provider(fleet: Fleet, kind: str) -> list[dict[str, Any]]:
    """The effects on one kind of thing, `contactlists` or `campaigns`."""
    path = f"/api/v2/outbound/{kind}"
    return [it for it in fleet.effects() if it["path"].startswith(path)]


def queued(fleet: Fleet) -> list[str]:
    """Every contact that was queued, as often as it was."""
    return [name for it in fleet.requests() for name in it.get("queued", ())]
