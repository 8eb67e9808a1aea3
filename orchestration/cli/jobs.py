"""`headgate jobs`: every job, the newest first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from orchestration.cli import options
from orchestration.text import format_count, format_moment
from orchestration.views.progress import all_jobs
from workers.ledger.installation import where

if TYPE_CHECKING:
    from orchestration.views.progress import Progress


@click.command()
@options.as_json
@options.configured
def command(*, as_json: bool) -> None:
    """List the jobs of each configured client, the newest first.

    \b
    Example:  headgate jobs --json
    Exit:     0 listed, 1 no store, 2 wrong configuration
    """
    clients = options.clients()
    jobs = {name: all_jobs(clients[name]) for name in clients.names()}
    if as_json:
        click.echo(json.dumps([job.as_dict() for of_client in jobs.values() for job in of_client]))
        return
    if not any(jobs.values()):
        place = where(clients.settings.store)
        click.echo(f"the store {place} has no jobs; submit one with: headgate submit", err=True)
    for name, of_client in jobs.items():
        if of_client:
            click.secho(f"client {name}", bold=True)
        for job in of_client:
            click.echo(_format_job(job))


def _format_job(job: Progress) -> str:
    counts = [f"{count:,} {word}" for word, count in job.counts.items() if count]
    if left := job.rows - job.ended:
        counts.append(f"{left:,} open")
    state = click.style(f"{job.state:9}", fg=_choose_colour(job))
    parent = f"  ({job.name} of campaign {job.of[1]} in {job.of[0]})" if job.of else ""
    return (
        f"  {job.job:16}  {format_moment(job.started_us)}  {job.kind:9}  {state}  "
        f"{format_count(job.rows, 'row'):>14}: {', '.join(counts)}{parent}"
    )


def _choose_colour(job: Progress) -> str:
    if job.state != "finished":
        return "cyan"
    return "green" if job.all_succeeded else "yellow"
