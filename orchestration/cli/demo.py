"""`headgate demo`: see Headgate work, on this machine alone."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click
from rich.console import Console

from orchestration import demo
from orchestration.cli import options
from orchestration.cli.progress_display import PLAIN_LOOKS, StoreWatch, show_live, show_plain
from orchestration.text import format_count
from orchestration.views.progress import follow
from workers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from orchestration.demo import CampaignsLook, CampaignsSummary, ContactsSummary, MediaSummary
    from orchestration.views.progress import Progress
    from workers.clients import Client

_Summary = TypeVar("_Summary", "ContactsSummary", "CampaignsSummary", "MediaSummary")

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
@options.configured
@click.pass_context
def command(ctx: click.Context, keep: Path | None, client: str | None) -> None:
    """Send 5,000 contacts through two workers to a strict local provider, and check what it got.

    The demo brings everything: a store, a provider of 200 calls/s that answers 429 to the 201st,
    two worker processes, and a CSV of invented contacts with a few bad lines. It takes about 35 s.
    With --client it brings the contacts only.

    \b
    Example:  headgate demo --keep demo-run
    Exit:     0 the provider's journal confirms that nothing was refused, lost or doubled,
              1 it does not, 2 wrong usage, 130 interrupted
    """
    if ctx.invoked_subcommand:
        if keep or client:
            raise UsageError(f"options of demo {ctx.invoked_subcommand} come behind its name")
        return
    if client and keep:
        raise UsageError("--keep and --client do not go together; leave out one of them")
    if client:
        chosen = options.clients()[client]
        summary = demo.run_contacts_on(chosen, lambda job: _follow(chosen, job), click.echo)
        _show_contacts(summary)
        raise SystemExit(0 if summary.confirmed else 1)
    _play(keep, lambda folder: demo.run_contacts(folder, watch_job, click.echo), _show_contacts)


@command.command("campaigns")
@_keep
def play_campaigns(keep: Path | None) -> None:
    """Make and start 10 campaigns with 2,000 contacts each at a provider that loses answers.

    The provider remembers no key, so a step that is sent twice without a look-up is done twice. The
    demo takes less than a minute.

    \b
    Example:  headgate demo campaigns
    Exit:     0 the provider's journal confirms that each campaign was made and started once, and
              each contact queued once, 1 it does not, 2 wrong usage, 130 interrupted
    """
    _play(keep, lambda folder: demo.run_campaigns(folder, watch_all, click.echo), show_campaigns)


@command.command("media")
@_keep
def play_media(keep: Path | None) -> None:
    """Send 200 sounds in two languages to a provider that loses answers and lets URLs expire.

    The provider cannot transcode one of the sounds. The demo takes less than a minute.

    \b
    Example:  headgate demo media
    Exit:     0 the provider's journal confirms that each prompt was made once, and each file is
              there as it is here, 1 it does not, 2 wrong usage, 130 interrupted
    """
    _play(keep, lambda folder: demo.run_media(folder, watch_job, click.echo), show_media)


def _play(
    keep: Path | None, run: Callable[[Path], _Summary], show: Callable[[_Summary], None]
) -> NoReturn:
    """Run a demo to its end, show its summary, and exit with what the summary says."""
    try:
        with _open_folder(keep) as folder:
            summary = run(folder)
    except KeyboardInterrupt:
        click.echo("\nthe demo has ended early, and everything that it started", err=True)
        raise SystemExit(options.INTERRUPTED) from None
    show(summary)
    if keep:
        click.echo(
            f"\nlook around: headgate report {summary.last.job} --config {keep}/headgate.toml"
        )
    raise SystemExit(0 if summary.confirmed else 1)


@contextmanager
def _open_folder(keep: Path | None) -> Iterator[Path]:
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


def _follow(client: Client, job: str) -> Progress:
    store = StoreWatch()
    looks = follow(client, job, away=store.report_away)
    return watch_job(store.report_return(looks), client)


def watch_job(looks: Iterable[Progress], client: Client) -> Progress:
    """Show the looks at a job; returns the last one."""
    if Console().is_terminal:
        click.echo()
        return show_live(looks, client)
    return show_plain(looks)


def watch_all(looks: Iterable[CampaignsLook]) -> CampaignsLook:
    """Show the looks at campaigns and their contacts; returns the last one."""
    for number, look in enumerate(looks):
        if number % PLAIN_LOOKS == 0 or look.campaigns.state == "finished":
            click.echo(str(look))
    return look


def _show_contacts(summary: ContactsSummary) -> None:
    click.echo(f"\nrows        {summary.last.rows:,} read: {_format_states(summary.last)}")
    for line, reason in summary.rejected:
        click.echo(f"            line {line:,} rejected: {reason}")
    if summary.joined:
        joined = format_count(summary.joined, "row")
        click.echo(f"            {joined} joined to an earlier one: one call")
    click.echo(
        f"rate        {summary.calls_per_s:.1f} calls/s, {summary.use:.1%} of the governed rate"
    )
    click.echo(
        f"journal     {summary.requests:,} calls reached the provider, "
        f"{summary.effects:,} had an effect"
    )
    _show_wrong(summary)


def show_campaigns(summary: CampaignsSummary) -> None:
    """Print the summary of the demo of campaigns."""
    states = f"{_format_states(summary.last)}, with {summary.contacts:,} contacts"
    click.echo(f"\ncampaigns   {summary.last.rows:,} read: {states}")
    executed = _format_counts(summary.executed)
    click.echo(f"journal     {summary.requests:,} calls reached the provider: {executed}")
    click.echo(f"            {summary.queued:,} contacts were queued to be called")
    click.echo(f"faults      {_format_counts(summary.faults)}")
    _show_wrong(summary)


def show_media(summary: MediaSummary) -> None:
    """Print the summary of the demo of media."""
    click.echo(f"\nfiles       {summary.last.rows:,} read: {_format_states(summary.last)}")
    click.echo(f"            {summary.failure}")
    click.echo(f"journal     {summary.requests:,} calls, and {summary.transfers:,} transfers")
    there = f"{summary.prompts:,} prompts made, {summary.files:,} files there as they are here"
    click.echo(f"            {there}, {summary.expired:,} expired URLs asked for anew")
    click.echo(f"faults      {_format_counts(summary.faults)}")
    _show_wrong(summary)


def _format_states(last: Progress) -> str:
    return _format_counts({word: count for word, count in last.counts.items() if count})


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def _show_wrong(summary: ContactsSummary | CampaignsSummary | MediaSummary) -> None:
    counts = {
        "429s": summary.throttled,
        "lost": summary.lost,
        "duplicates": summary.duplicates,
    }
    for name, count in counts.items():
        click.secho(f"{name}: {count}", fg="red" if count else "green", bold=True)
