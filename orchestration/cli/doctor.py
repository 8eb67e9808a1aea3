"""`headgate doctor`: checks that everything is as it must be."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from orchestration.views.doctor import examine

if TYPE_CHECKING:
    from orchestration.views.doctor import Check

#: Violations of one kind that are printed for people.
_PRINTED: Final = 10


@click.command()
@options.as_json
@options.configured
def command(*, as_json: bool) -> None:
    """Examine store, broker and workers, and recount the ledger of every job.

    The command changes nothing, and may run while workers work. It reads every row of every job: a
    million rows take some minutes. It contacts no
    provider and asks for no access token: `headgate config check` does.

    \b
    Example:  headgate doctor
    Exit:     0 all is well, 1 something is not, 2 wrong configuration
    """
    checks = []
    for check in examine(options.clients()):
        checks.append(check)
        if not as_json:
            _show(check)
    ok = not any(check.violations for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}))
    raise SystemExit(0 if ok else 1)


def _show(check: Check) -> None:
    mark = click.style("FAIL", fg="red") if check.violations else click.style("ok  ", fg="green")
    click.echo(f"{mark}  {check.name:14}  {check.text}")
    for violation in check.violations[:_PRINTED]:
        click.echo(f"      {violation}")
    if len(check.violations) > _PRINTED:
        click.echo(f"      and {len(check.violations) - _PRINTED:,} more")
