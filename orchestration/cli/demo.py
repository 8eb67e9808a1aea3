"""`headgate demo`: see it work, on this machine alone."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click
from rich.console import Console

from orchestration import demo
from orchestration.cli.options import INTERRUPTED, clients, configured
from orchestration.cli.watch import PLAIN_LOOKS, Away, show_live, show_plain
from orchestration.demo import campaigns, media
from orchestration.text import counted
from orchestration.views.progress import follow
from workers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orchestration.demo import Summary
    from orchestration.demo.campaigns import Look
    from orchestration.views.progress import Progress
    from workers.clients import Client


#: What a demo came to.
S = TypeVar("S", "Summary", "campaigns.Summary", "media.Summary")

_keep = click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Use this new or empty folder and keep it: configuration, store, logs, journal.",
)


@click.group(invoke_without_command=True)
@_keep
@click.option(
    "--client",
    metavar="NAME",
    help="Use this client of the configuration, a sandbox, and workers that run already.",
)
@configured
@click.pass_context
def command(ctx: click.Context, keep: Path | None, client: str | None) -> None:
    """Send 5,000 contacts through two workers to a strict local provider, and ask it what it got.

    It brings everything: a store, a provider of 200 calls/s that answers 429 to the 201st, two
    worker processes, and a CSV of invented contacts with a few bad lines. It takes about 35 s.
    With --client it brings the contacts only.

    \b
    Example:  headgate demo --keep demo-run
    Exit:     0 the provider's journal confirms that nothing was refused, lost or doubled,
              1 it does not, 2 wrong usage, 130 interrupted
    """  # noqa: D301 -- click wants the character itself
    if ctx.invoked_subcommand:
        if keep or client:
            raise UsageError(f"options of demo {ctx.invoked_subcommand} come behind its name")
        return
    if client and keep:
        raise UsageError("--keep and --client do not go together; leave out one of them")
    if client:
        it = clients()[client]
        summary = demo.run_on(it, lambda job: _follow(it, job), click.echo)
        _show(summary)
        raise SystemExit(0 if summary.confirmed else 1)
    _play(keep, lambda folder: demo.run(folder, _watch, click.echo), _show)


@command.command("campaigns")
@_keep
def of_campaigns(keep: Path | None) -> None:
    """Make and start 10 campaigns with 2,000 contacts each at a provider that loses answers.

    It remembers no key, so what is sent twice without a look is made twice. It takes less than a
    minute.

    \b
    Example:  headgate demo campaigns
    Exit:     0 the provider's journal confirms that each campaign was made and started once, and
              each contact queued once, 1 it does not, 2 wrong usage, 130 interrupted
    """  # noqa: D301 -- click wants the character itself
    _play(keep, lambda folder: campaigns.run(folder, _watch_all, click.echo), _show_campaigns)


@command.command("media")
@_keep
def of_media(keep: Path | None) -> None:
    """Send 200 sounds in two languages to a provider that loses answers and lets URLs expire.

    One of them cannot be transcoded. It takes less than a minute.

    \b
    Example:  headgate demo media
    Exit:     0 the provider's journal confirms that each prompt was made once, and each file is
              there as it is here, 1 it does not, 2 wrong usage, 130 interrupted
    """  # noqa: D301 -- click wants the character itself
    _play(keep, lambda folder: media.run(folder, _watch, click.echo), _show_media)


def _play(keep: Path | None, run: Callable[[Path], S], show: Callable[[S], None]) -> NoReturn:
    """Run a demo to its end, show what it came to, and leave with what that says."""
    try:
        with _folder(keep) as folder:
            summary = run(folder)
    except KeyboardInterrupt:
        click.echo("\nthe demo has ended early, and everything that it started", err=True)
        raise SystemExit(INTERRUPTED) from None
    show(summary)
    if keep:
        click.echo(
            f"\nlook around: headgate report {summary.last.job} --config {keep}/headgate.toml"
        )
    raise SystemExit(0 if summary.confirmed else 1)


def _show_media(it: media.Summary) -> None:
    states = ", ".join(f"{count:,} {word}" for word, count in it.last.counts.items() if count)
    click.echo(f"\nfiles       {it.last.rows:,} read: {states}")
    click.echo(f"            {it.failure}")
    click.echo(f"journal     {it.requests:,} calls, and {it.transfers:,} transfers")
    there = f"{it.prompts:,} prompts made, {it.files:,} files there as they are here"
    click.echo(f"            {there}, {it.expired:,} expired URLs asked for anew")
    faults = ", ".join(f"{count:,} {word}" for word, count in it.faults.items())
    click.echo(f"faults      {faults}")
    _show_wrong(it)


def _watch_all(looks: Iterable[Look]) -> Look:
    for number, look in enumerate(looks):
        if number % PLAIN_LOOKS == 0 or look.campaigns.state == "finished":
            click.echo(str(look))
    return look


def _show_campaigns(it: campaigns.Summary) -> None:
    states = ", ".join(f"{count:,} {word}" for word, count in it.last.counts.items() if count)
    click.echo(f"\ncampaigns   {it.last.rows:,} read: {states}, with {it.contacts:,} contacts")
    made = ", ".join(f"{count:,} {word}" for word, count in it.made.items())
    click.echo(f"journal     {it.requests:,} calls reached the provider: {made}")
    click.echo(f"            {it.queued:,} contacts were queued to be called")
    faults = ", ".join(f"{count:,} {word}" for word, count in it.faults.items())
    click.echo(f"faults      {faults}")
    _show_wrong(it)


def _follow(client: Client, job: str) -> Progress:
    away = Away()
    return _watch(away.back(follow(client, job, away=away.away)), client)


def _watch(looks: Iterable[Progress], client: Client) -> Progress:
    if Console().is_terminal:
        click.echo()
        return show_live(looks, client)
    return show_plain(looks)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="headgate-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        is_empty = not any(keep.iterdir())
    except OSError as error:
        raise UsageError(f"{keep} cannot be used ({error.strerror}); name another folder") from None
    if not is_empty:
        raise UsageError(f"{keep} is not empty; name a new folder")
    yield keep.absolute()


def _show(it: Summary) -> None:
    states = ", ".join(f"{count:,} {word}" for word, count in it.last.counts.items() if count)
    click.echo(f"\nrows        {it.last.rows:,} read: {states}")
    for line, reason in it.rejected:
        click.echo(f"            line {line:,} rejected: {reason}")
    if it.joined:
        click.echo(f"            {counted(it.joined, 'row')} joined to an earlier one: one call")
    click.echo(f"rate        {it.calls_per_s:.1f} calls/s, {it.use:.1%} of the governed rate")
    click.echo(
        f"journal     {it.requests:,} calls reached the provider, {it.effects:,} had an effect"
    )
    _show_wrong(it)


def _show_wrong(it: Summary | campaigns.Summary | media.Summary) -> None:
    for name, count in (("429s", it.throttled), ("lost", it.lost), ("duplicates", it.duplicates)):
        click.secho(f"{name}: {count}", fg="red" if count else "green", bold=True)
