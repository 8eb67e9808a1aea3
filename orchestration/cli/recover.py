"""`headgate recover`: after a restored backup of the store."""

from __future__ import annotations

import json
from datetime import datetime

import click

from orchestration.cli import options
from orchestration.cli.changes import reasoned
from orchestration.operate import recovery
from orchestration.views.workers import find_outdated
from workers.errors import UsageError


class Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer versions
    """A moment in ISO 8601; without a zone it is local time, so that a second run means it too."""

    name = "moment"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read the moment, microseconds since the epoch, or show what one looks like."""
        try:
            moment = datetime.fromisoformat(str(value)).astimezone()
            moment_us = round(moment.timestamp() * 1_000_000)
        except (ValueError, OverflowError, OSError):
            moment_us = 0
        if moment_us <= 0:
            self.fail(
                f"{value!r} is no moment; use 2026-03-01T02:00:00Z, 2026-03-01T03:00:00+01:00, "
                f"or 2026-03-01T03:00 in local time",
                param,
                ctx,
            )
        return moment_us


@click.command()
@click.option(
    "--since", "since_us", type=Moment(), metavar="T", help="The moment of the backup, an ISO time."
)
@click.option(
    "--new-installation",
    is_flag=True,
    help="Begin anew with a store that is not the one which this machine remembers.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@reasoned
@options.as_json
@options.configured
def command(  # noqa: PLR0913 -- one for each option
    since_us: int | None,
    reason: str,
    by: str,
    *,
    new_installation: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Treat open work as maybe sent, after the store was restored from a backup of the moment T.

    Stop all workers first. A transaction that had not ended at T is sent again under its key. Under
    guard lookup it is looked up first, and without a guard it ends as unknown, a dead letter. The
    same holds for pages that are opened later. You may give the same command again. If you do not
    know T exactly, give an earlier time; a time without a zone is local.

    A store that was emptied, or is not the one that this machine and configuration remember, stops
    every command and worker. Where no backup is left, --new-installation takes it as it is: the
    jobs of the old one are gone, and what it sent is sent again, under other keys, if you submit it
    again. Then start all workers again: old ones do nothing, and status and doctor name them.

    \b
    Example:  headgate recover --since 2026-03-01T02:00:00Z --reason "disk of the store lost"
              headgate recover --new-installation --reason "no backup was left"
    Exit:     0 done, 1 no store, 2 wrong usage, or with --since a worker is alive or T is in the
              future; then nothing was changed
    """
    if (since_us is None) != new_installation or (new_installation and dry_run):
        raise UsageError(
            "give --since with the moment of the backup, or --new-installation alone where there "
            "is none"
        )
    configured = options.clients()
    if since_us is None:
        before, after = recovery.begin_anew(configured, by=by, reason=reason)
        outdated = find_outdated(configured, after)
        if as_json:
            click.echo(json.dumps({"before": before, "after": after, "to_restart": outdated}))
            return
        click.echo(f"installation {after}, before {before}")
        alive = f"; alive: {', '.join(outdated)}" if outdated else ""
        click.echo(
            f"start all workers again, and other processes that send: those that ran before do "
            f"nothing{alive}"
        )
        return
    clients = [configured[name] for name in configured.names()]
    recovery.check(clients, since_us)
    results = []
    for client in clients:
        if dry_run:
            result = recovery.foresee(client, since_us)
        else:
            result = recovery.recover(client, since_us, by=by, reason=reason)
        results.append(result)
        if not as_json:
            click.echo(f"client {result.client}: {result.text}")
    if as_json:
        answer = {"dry_run": dry_run, "clients": [result.as_dict() for result in results]}
        click.echo(json.dumps(answer))
