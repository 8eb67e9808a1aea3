"""`headgate jobs`: every job, the newest first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestration.cli import options
from orchestration.text import counted
from orchestration.views.progress import all_jobs

if TYPE_CHECKING:
    from orchestration.views.progress import Progress


@click.command()
@options.as_json
@options.configured
def command(as_json: bool) -> None:  # noqa: FBT001 -- as click
    """List the jobs of each configured client, the newest first.

    \b
    Example:  headgate jobs --json
    Exit:     0 listed, 1 no store, 2 wrong configuration
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    jobs = {name: all_jobs(clients[name]) for name in clients.names()}
    if as_json:
        click.echo(json.dumps([it.as_dict() for its_jobs in jobs.values() for it in its_jobs]))
        return
    if not any(jobs.values()):
        click.echo("there are no jobs; submit one with: headgate submit", err=True)
    for name, its_jobs in jobs.items():
        for number, it in enumerate(its_jobs):
            if number == 0:
                click.secho(f"client {name}", bold=True)
            click.echo(_line(it))


def _line(it: Progress) -> str:
    accepted = datetime.fromtimestamp(it.started_us / 1e6, UTC).astimezone()
    counts = [f"{count:,} {word}" for word, count in it.counts.items() if count]
    if left := it.rows - it.ended:
        counts.append(f"{left:,} open")
    state = click.style(f"{it.state:9}", fg=_colour(it))
    of = f"  ({it.name} of campaign {it.of[1]} in {it.of[0]})" if it.of else ""
    return (
        f"  {it.job:16}  {accepted:%Y-%m-%d %H:%M:%S}  {it.kind:9}  {state}  "
        f"{counted(it.rows, 'row'):>14}: {', '.join(counts)}{of}"
    )


def _colour(it: Progress) -> str:
    if it.state != "finished":
        return "cyan"
    return "green" if it.all_succeeded else "yellow"
