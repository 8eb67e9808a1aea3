"""`headgate doctor`: is everything as it must be?"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from orchestration.cli import options

#: Violations of one kind that are printed for people.
SHOWN = 10


@click.command()
@options.as_json
@options.configured
def command(as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Examine store, broker and workers, and recount the ledger of every job.

    It only reads, and may run while workers work. Every row of every job is looked at: a million
    rows take some minutes.

    \b
    Example:  headgate doctor
    Exit:     0 all is well, 1 something is not, 2 wrong configuration
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    # Late: the tasks behind it read the configuration, which must be the chosen one.
    from orchestration.views.doctor import examine

    checks = []
    for check in examine(clients):
        checks.append(check)
        if as_json:
            continue
        mark = (
            click.style("FAIL", fg="red") if check.violations else click.style("ok  ", fg="green")
        )
        click.echo(f"{mark}  {check.name:14}  {check.text}")
        for violation in check.violations[:SHOWN]:
            click.echo(f"      {violation}")
        if len(check.violations) > SHOWN:
            click.echo(f"      and {len(check.violations) - SHOWN:,} more")
    sick = any(it.violations for it in checks)
    if as_json:
        click.echo(json.dumps({"ok": not sick, "checks": [asdict(it) for it in checks]}))
    raise SystemExit(1 if sick else 0)
