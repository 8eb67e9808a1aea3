"""`headgate status`: what each client's governor does just now."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from orchestration.cli.limit_table import format_also
from orchestration.text import format_count, format_duration
from orchestration.views.status import ClientStatus, status
from orchestration.views.workers import Roster, name_problems
from workers.errors import LedgerDamaged
from workers.governor.flows import NO_TENANT
from workers.store.connection import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.views.refusals import RefusedRoute
    from orchestration.views.status import LimitStatus

#: So many tenants of a lane are named; the others are shown as a sum.
_TENANTS_NAMED: Final = 5


@click.command()
@options.as_json
@options.configured
def command(*, as_json: bool) -> None:
    """Show the limits of each client with their use, what waits, what is out and what holds it.

    The command changes nothing. It shows the tokens of a limit while workers ring. Calls per second
    are those of the last 10 s; refusals and suggestions are those of the last hour.

    \b
    Example:  headgate status --json
    Exit:     0 shown, 1 no store, 2 wrong configuration
    """
    clients = options.clients()
    statuses, problems = list[ClientStatus](), name_problems(clients)
    store = clients.settings.store
    roster = Roster.of(open_store(store), store.namespace)
    for name in clients.names():
        try:
            statuses.append(status(clients[name], roster))
        except LedgerDamaged as error:  # the others are shown
            problems.append(f"client {name}: {error}")
    if as_json:
        of_clients = [shown.as_dict() for shown in statuses]
        place = options.place()
        click.echo(json.dumps({"place": place, "clients": of_clients, "problems": problems}))
        return
    click.secho(options.place(), dim=True)
    if not clients.names():
        click.echo("there are no clients; add one to the configuration", err=True)
    for number, shown in enumerate(statuses):
        click.echo(("\n" if number else "") + _format_status(shown))
    for problem in problems:
        click.secho(f"\nproblem: {problem}", fg="yellow")


def _format_status(shown: ClientStatus) -> str:
    calls = f"{shown.calls_per_s:.1f}/s  in flight {shown.in_flight}  bells {shown.bells_out}"
    waiting = "  ".join(f"{lane} {count:,}" for lane, count in shown.waiting.items())
    jobs = f"{shown.open_jobs} open with {format_count(shown.open_rows, 'row')} to go"
    aside = f"retries {shown.retries}  quarantine {shown.quarantine}"
    workers = f"{shown.workers} alive with {format_count(shown.threads, 'thread')}"
    lines = [
        click.style(f"client {shown.client}", bold=True),
        *(_format_limit(limit) for limit in shown.limits),
        *_format_holds(shown),
        *(_format_fact("refused", _format_refused(route)) for route in shown.refused),
        *(_format_fact("suggestion", click.style(text, fg="yellow")) for text in shown.suggestions),
        _format_fact("calls", calls),
        _format_fact("waiting", f"{waiting}  for limit {shown.binds}" if shown.binds else waiting),
        *_format_tenants(shown),
        _format_fact("jobs", jobs),
        *([_format_fact("reclaimed", shown.reclaimed.sentence)] if shown.reclaimed else []),
        _format_fact("aside", f"{aside}  dead letters {_format_dead(shown)}"),
        _format_fact("workers", workers),
        *_format_media(shown),
        *(_format_fact("problem", click.style(text, fg="yellow")) for text in shown.problems),
    ]
    if shown.advice:
        lines.append(_format_fact("advice", click.style(shown.advice, fg="yellow")))
    return "\n".join(lines)


def _format_media(shown: ClientStatus) -> Iterator[str]:
    """The transfers of files, where there are any or somebody waits for them."""
    media = shown.media
    if media.waiting or media.out or media.workers:
        workers = format_count(media.workers, "worker")
        threads = format_count(media.threads, "thread")
        transfers = f"transfers waiting {media.waiting:,}  out {media.out}"
        yield _format_fact("media", f"{workers} with {threads}  {transfers}")


def _format_limit(limit: LimitStatus) -> str:
    match = "" if limit.match == "* *" else f", {limit.match}"
    if limit.rate_per_s is None:
        text = f"{limit.count:,} at once{match}{format_also(limit.also)}  free {limit.tokens}"
        return _format_fact(f"limit {limit.name}", text)
    text = (
        f"{limit.count:,} per {limit.window_s:g} s, {limit.shape}{match}{format_also(limit.also)}"
    )
    text += f"  governed {limit.rate_per_s:.4g}/s, burst {limit.burst}"
    text += "  idle" if limit.tokens is None else f"  tokens {limit.tokens}"
    if limit.use is not None:
        text += f"  use {limit.use:.0%}"
    return _format_fact(f"limit {limit.name}", text)


def _format_refused(route: RefusedRoute) -> str:
    ago = format_duration(route.ago_s)
    text = f"{route.route}  {route.count:,} in the last hour, the last {ago} ago"
    left = (f"{name} {'held' if count is None else count}" for name, count in route.tokens.items())
    tokens = ", ".join(left)
    return f"{text}; tokens left then: {tokens}" if tokens else text


def _format_tenants(shown: ClientStatus) -> Iterator[str]:
    """A line for each lane in which a tenant waits: the longest few, and the rest as a sum."""
    for lane, group in groupby(shown.backlog, key=lambda backlog: backlog.lane):
        backlogs = list(group)
        if [backlog.tenant for backlog in backlogs] == [NO_TENANT]:
            continue
        named, rest = backlogs[:_TENANTS_NAMED], backlogs[_TENANTS_NAMED:]
        parts = [f"{_name_tenant(backlog.tenant)} {backlog.waiting:,}" for backlog in named]
        if rest:
            waiting = sum(backlog.waiting for backlog in rest)
            parts.append(f"and {len(rest)} more with {waiting:,}")
        yield _format_fact(f"  {lane}", "  ".join(parts))


def _name_tenant(tenant: str) -> str:
    return "no tenant" if tenant == NO_TENANT else tenant


def _format_holds(shown: ClientStatus) -> Iterator[str]:
    """What holds the client: pauses, what fails, and what the provider's headers leave."""
    if not shown.holds:
        yield _format_fact("holds", "none")
    for hold in shown.holds:
        yield _format_fact("hold", click.style(hold.sentence, fg="yellow"))
    for failure in shown.failures:
        name = "failing" if failure.probe_us is None else "breaker"
        yield _format_fact(name, click.style(failure.sentence, fg="yellow"))
    for scope, left in shown.provider_leaves.items():
        yield _format_fact("provider", f"leaves {left:,} to {scope}")


def _format_dead(shown: ClientStatus) -> str:
    if not shown.dead_letters:
        return "0"
    return click.style(f"{shown.dead_letters}", fg="red") + "  (headgate dead list)"


def _format_fact(name: str, text: str) -> str:
    return f"  {name:12}  {text}"
