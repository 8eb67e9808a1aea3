"""`headgate status`: what each client's governor does just now."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import click

from orchestration.cli import options
from orchestration.cli.watch import span
from orchestration.text import counted
from orchestration.views.status import status
from workers.governor.flows import NO_TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.views.holds import Hold
    from orchestration.views.refused import RefusedRoute
    from orchestration.views.status import ClientStatus, LimitStatus

#: So many tenants of a lane are named; the others are added up.
TENANTS_NAMED = 5


@click.command()
@options.as_json
@options.configured
def command(as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Show the limits of each client with their use, what waits, what is out and what holds it.

    It only reads. Tokens are shown while workers ring; calls per second are those of the last 10 s,
    refusals and what they suggest of the last hour.

    \b
    Example:  headgate status --json
    Exit:     0 shown, 1 no store, 2 wrong configuration
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    found = [status(clients[name]) for name in clients.names()]
    if as_json:
        click.echo(json.dumps({"clients": [it.as_dict() for it in found]}))
        return
    if not found:
        click.echo("there are no clients; add one to the configuration", err=True)
    for number, it in enumerate(found):
        click.echo(("\n" if number else "") + _text(it))


def _text(it: ClientStatus) -> str:
    waiting = "  ".join(f"{lane} {count:,}" for lane, count in it.waiting.items())
    half_open = "half open: one call at a time is let through"
    lines = [
        click.style(f"client {it.client}", bold=True),
        *(_limit(one) for one in it.limits),
        *([_fact("hold", _hold(one)) for one in it.holds] or [_fact("holds", "none")]),
        *([_fact("breaker", click.style(half_open, fg="yellow"))] if it.half_open else []),
        *(
            _fact("provider", f"leaves {left:,} to {scope}")
            for scope, left in it.provider_leaves.items()
        ),
        *(_fact("refused", _refused(one)) for one in it.refused),
        *(_fact("suggestion", click.style(one, fg="yellow")) for one in it.suggestions),
        _fact("calls", f"{it.calls_per_s:.1f}/s  in flight {it.in_flight}  bells {it.bells_out}"),
        _fact("waiting", f"{waiting}  for limit {it.binds}" if it.binds else waiting),
        *_tenants(it),
        _fact("jobs", f"{it.open_jobs} open with {counted(it.open_rows, 'row')} to go"),
        _fact(
            "aside", f"retries {it.retries}  quarantine {it.quarantine}  dead letters {_dead(it)}"
        ),
        _fact("workers", f"{it.workers} alive with {counted(it.threads, 'thread')}"),
        *_media(it),
    ]
    if it.advice:
        lines.append(_fact("advice", click.style(it.advice, fg="yellow")))
    return "\n".join(lines)


def _media(it: ClientStatus) -> Iterator[str]:
    """The transfers of files, where there are any or somebody waits for them."""
    media = it.media
    if media.waiting or media.out or media.workers:
        who = f"{counted(media.workers, 'worker')} with {counted(media.threads, 'thread')}"
        yield _fact("media", f"{who}  transfers waiting {media.waiting:,}  out {media.out}")


def _limit(it: LimitStatus) -> str:
    match = "" if it.match == "* *" else f", {it.match}"
    if it.rate_per_s is None:
        return _fact(f"limit {it.name}", f"{it.count:,} at once{match}  free {it.tokens}")
    text = f"{it.count:,} per {it.window_s:g} s, {it.shape}{match}"
    text += f"  governed {it.rate_per_s:.4g}/s, burst {it.burst}"
    text += "  idle" if it.tokens is None else f"  tokens {it.tokens}"
    if it.use is not None:
        text += f"  use {it.use:.0%}"
    return _fact(f"limit {it.name}", text)


def _refused(it: RefusedRoute) -> str:
    left = (f"{name} {'held' if count is None else count}" for name, count in it.tokens.items())
    tokens = ", ".join(left)
    text = f"{it.route}  {it.count:,} in the last hour, the last {span(it.ago_s)} ago"
    return f"{text}; tokens left then: {tokens}" if tokens else text


def _tenants(it: ClientStatus) -> Iterator[str]:
    """A line for each lane in which a tenant waits: the longest few, and the rest as a sum."""
    for lane, group in groupby(it.backlog, key=lambda one: one.lane):
        tenants = list(group)
        if [one.tenant for one in tenants] == [NO_TENANT]:
            continue
        named, rest = tenants[:TENANTS_NAMED], tenants[TENANTS_NAMED:]
        parts = [f"{_name(one.tenant)} {one.waiting:,}" for one in named]
        if rest:
            parts.append(f"and {len(rest)} more with {sum(one.waiting for one in rest):,}")
        yield _fact(f"  {lane}", "  ".join(parts))


def _name(tenant: str) -> str:
    return "no tenant" if tenant == NO_TENANT else tenant


def _hold(it: Hold) -> str:
    until = f"{datetime.fromtimestamp(it.until_us / 1e6, UTC).astimezone():%H:%M:%S}"
    end = "it is resumed" if it.endless else f"{until}, another {span(it.left_s)}"
    text = f"{it.scope} paused until {end}"
    return click.style(f"{text}: {it.why}" if it.why else text, fg="yellow")


def _dead(it: ClientStatus) -> str:
    if not it.dead_letters:
        return "0"
    return click.style(f"{it.dead_letters}", fg="red") + "  (headgate dead list)"


def _fact(name: str, text: str) -> str:
    return f"  {name:12}  {text}"
