"""`headgate campaign`: how far started campaigns are at the provider, and an end to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click
import requests

from orchestration.cli import options
from orchestration.operate.campaigns import campaigns_of, read_progress, stop_campaign
from orchestration.views.find import find_job
from workers.errors import HeadgateError
from workers.governor.flows import NO_TENANT
from workers.session.session import GovernedSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.operate.campaigns import CampaignProgress, CampaignStop
    from workers.clients import Client

#: Seconds that a call may wait for its tokens.
_WAIT_S: Final = 60.0


@click.group()
def command() -> None:
    """See how far the campaigns of a job are at the provider, or stop them."""


@command.command("progress")
@click.argument("job")
@options.as_json
@options.configured
def show_progress(job: str, *, as_json: bool) -> None:
    """Show how many contacts each campaign of JOB has called; the provider counts them.

    One call asks for 50 campaigns. It goes ahead of the jobs' calls, under the same limits.

    \b
    Example:  headgate campaign progress c-1f0c6d2a9b34
    Exit:     0 shown, 1 some campaign is not made yet or the provider does not know it, or
              does not answer, 2 no such job or wrong usage
    """
    client, _ = find_job(options.clients(), job)
    campaigns = campaigns_of(client, job)
    with _open_session(client) as session:
        try:
            answers = list(read_progress(session, campaigns))
        except requests.RequestException as error:
            raise HeadgateError(f"client {client.name}: {error}; ask again") from None
    _show(answers, as_json=as_json)
    raise SystemExit(0 if all(answer.called is not None for answer in answers) else 1)


@command.command("stop")
@click.argument("job")
@click.option("--row", default="", metavar="ID", help="Only the campaign of this row.")
@options.as_json
@options.configured
def stop_campaigns(job: str, row: str, *, as_json: bool) -> None:
    """Stop the campaigns of JOB that are on, and print one line of result for each.

    The command looks at the state of each campaign first. It leaves a campaign that is off or
    stopping as it is. A row that has not made or started its campaign yet goes on, and its line
    says so: give the command again once it is started.

    \b
    Example:  headgate campaign stop c-1f0c6d2a9b34 --row may
    Exit:     0 all are off or stopping, 1 some are not, 2 no such job or row, or wrong usage
    """
    client, _ = find_job(options.clients(), job)
    campaigns = campaigns_of(client, job, row)
    results = []
    with _open_session(client) as session:
        for campaign in campaigns:
            results.append(stop_campaign(session, campaign))
            if not as_json:
                _show(results[-1:], as_json=False)
    if as_json:
        _show(results, as_json=True)
    raise SystemExit(0 if all(result.stopped for result in results) else 1)


def _open_session(client: Client) -> GovernedSession:
    return GovernedSession.of(client, "urgent", NO_TENANT, _WAIT_S)


def _show(results: Sequence[CampaignProgress | CampaignStop], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([result.as_dict() for result in results]))
        return
    for result in results:
        click.echo(f"{result.row:20}  {result.campaign or '-':36}  {result.words}")
