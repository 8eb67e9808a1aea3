"""`headgate campaign`: how far started campaigns are at the provider, and an end to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import requests

from orchestration.cli import options
from orchestration.operate import campaigns
from orchestration.views.find import find_job
from workers.errors import HeadgateError
from workers.governor.flows import NO_TENANT
from workers.session.session import GovernedSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.operate.campaigns import Dialled, Stopped
    from workers.clients import Client

#: So long a call may wait for its tokens, seconds.
WAIT_S = 60.0


@click.group()
def command() -> None:
    """See how far the campaigns of a job are at the provider, or stop them."""


@command.command()
@click.argument("job")
@options.as_json
@options.configured
def progress(job: str, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Show how many contacts each campaign of JOB has called, as the provider tells it.

    One call asks for 50 campaigns; it goes ahead of the jobs' calls, under the same limits.

    \b
    Example:  headgate campaign progress c-1f0c6d2a9b34
    Exit:     0 shown, 1 some campaign is not made yet or the provider does not know it, or
              does not answer, 2 no such job or wrong usage
    """  # noqa: D301 -- click wants the character itself
    client, _ = find_job(options.clients(), job)
    made = campaigns.made_by(client, job)
    with _session(client) as session:
        try:
            found = list(campaigns.progress_of(session, made))
        except requests.RequestException as error:
            raise HeadgateError(f"client {client.name}: {error}; ask again") from None
    _show(found, as_json=as_json)
    raise SystemExit(0 if all(it.called is not None for it in found) else 1)


@command.command()
@click.argument("job")
@click.option("--row", default="", metavar="ID", help="Only the campaign of this row.")
@options.as_json
@options.configured
def stop(job: str, row: str, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Stop the campaigns of JOB that are on, one line of result each.

    The state of each is looked at first; one that is off, or stopping, is left as it is. A row that
    has made no campaign yet, or not started it yet, goes on, and is told: stop it again then.

    \b
    Example:  headgate campaign stop c-1f0c6d2a9b34 --row may
    Exit:     0 all are off or stopping, 1 some are not, 2 no such job or row, or wrong usage
    """  # noqa: D301 -- click wants the character itself
    client, _ = find_job(options.clients(), job)
    made = campaigns.made_by(client, job, row)
    found = []
    with _session(client) as session:
        for it in made:
            found.append(campaigns.stop(session, it))
            if not as_json:
                _show(found[-1:], as_json=False)
    if as_json:
        _show(found, as_json=True)
    raise SystemExit(0 if all(it.stopped for it in found) else 1)


def _session(client: Client) -> GovernedSession:
    return GovernedSession.of(client, "urgent", NO_TENANT, WAIT_S)


def _show(found: Sequence[Dialled | Stopped], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([it.as_dict() for it in found]))
        return
    for it in found:
        click.echo(f"{it.row:20}  {it.campaign or '-':36}  {it.words}")
