"""`headgate watch`: a job's progress as it happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestration.cli import options
from orchestration.text import counted
from orchestration.views.find import find_job
from orchestration.views.progress import follow
from orchestration.views.status import status
from workers.errors import StoreAway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestration.views.progress import Progress
    from workers.clients import Client

#: Seconds between two looks: for a terminal, and for programs and plain text.
LIVE_S, EVERY_S = 0.5, 1.0
#: A plain line is printed after so many looks.
PLAIN_LOOKS = 5
#: A job that has not moved for so many looks may wait for something that a person can change.
STILL_LOOKS = 4

_COLOURS = {"succeeded": "green", "failed": "red", "unknown": "red", "rejected": "yellow"}


@click.command()
@click.argument("job")
@options.as_json
@options.configured
def command(job: str, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Follow JOB until its last row has ended: counts, rate, time left and answers of 429.

    Ctrl-C ends the watching; the job goes on.

    \b
    Example:  headgate watch c-1f0c6d2a9b34
    Exit:     0 all rows succeeded, 1 some did not or no store, 2 no such job or wrong usage,
              130 interrupted
    """  # noqa: D301 -- click wants the character itself
    client, _ = find_job(options.clients(), job)
    live = not as_json and Console().is_terminal
    store = Away()
    looks = store.back(follow(client, job, every_s=LIVE_S if live else EVERY_S, away=store.away))
    if not live:
        looks = _explained(looks)
    try:
        if as_json:
            last = show_json(looks)
        elif live:
            last = show_live(looks, client)
        else:
            last = show_plain(looks)
    except KeyboardInterrupt:
        click.echo(f"\nthe job goes on; watch it again with: headgate watch {job}", err=True)
        raise SystemExit(options.INTERRUPTED) from None
    raise SystemExit(0 if last.all_succeeded else 1)


def show_json(looks: Iterable[Progress]) -> Progress:
    """One JSON object a look; returns the last one."""
    for look in looks:
        click.echo(json.dumps(look.as_dict()))
    return look


def show_plain(looks: Iterable[Progress]) -> Progress:
    """A line now and then, and one for the end; returns the last look."""
    for number, look in enumerate(looks):
        if number % PLAIN_LOOKS == 0 or look.state == "finished":
            click.echo(line(look))
    return look


def show_live(looks: Iterable[Progress], client: Client | None = None) -> Progress:
    """A bar that moves, for terminals; returns the last look.

    Args:
        looks: What to show.
        client: Whose status may explain why nothing moves.
    """
    advice, still, ended = "", 0, -1
    with Live(console=Console(), auto_refresh=False) as display:
        for look in looks:
            still, ended = (still + 1 if look.ended == ended else 0), look.ended
            if look.not_begun:
                advice = look.not_begun
            elif client and look.state == "running" and still and still % STILL_LOOKS == 0:
                advice = why_still(client)
            elif not still:
                advice = ""
            display.update(picture(look, advice), refresh=True)
    return look


def line(look: Progress) -> str:
    """The look on one line."""
    counts = ", ".join(f"{count:,} {word}" for word, count in look.counts.items() if count)
    parts = [
        f"{look.ended:,} of {counted(look.rows, 'row')}",
        counts,
        f"{look.in_flight} in flight" if look.in_flight else "",
        f"{look.rate_per_s:.1f}/s" if look.rate_per_s is not None else "",
        f"429s {look.throttled}",
        f"{span(look.eta_s)} left" if look.eta_s else "",
    ]
    return f"{look.job}  {look.state}  " + "  ".join(part for part in parts if part)


def picture(look: Progress, advice: str = "") -> Group:
    """The look as a terminal shows it."""
    done = look.state == "finished"
    rate = "" if look.rate_per_s is None else f"{look.rate_per_s:.1f}/s"
    if done and look.finished_us:
        left = f"in {span((look.finished_us - look.started_us) / 1e6)}"
    else:
        left = look.state if look.not_begun else f"ETA {span(look.eta_s)}"
    bar = Table.grid(padding=(0, 2, 0, 0))
    bar.add_row(
        ProgressBar(total=max(1, look.rows), completed=look.ended, width=40),
        Text(f"{look.ended / max(1, look.rows):4.0%}", "bold"),
        Text(f"{look.ended:,} of {look.rows:,}"),
        Text(rate, "cyan"),
        Text(left),
    )
    counts = Text()
    shown = {
        **{word: count for word, count in look.counts.items() if count or word == "succeeded"},
        **({} if done else {"waiting": look.waiting, "in flight": look.in_flight}),
        "429s": look.throttled,
    }
    for word, count in shown.items():
        colour = _COLOURS.get(word, "red" if word == "429s" and count else "default")
        counts.append(f"{word} ", "dim").append(f"{count:,}", colour if count else "default")
        counts.append("   ")
    of = f", of campaign {look.of[1]} in {look.of[0]}" if look.of else ""
    its = (f"client {look.client}{of}", "dim")
    head = Text.assemble((look.kind, "bold"), f" {look.job}  ", its)
    return Group(head, bar, counts, *([Text(advice, "yellow")] if advice else []))


def why_still(client: Client) -> str:
    """What keeps a job from moving, "" when that cannot be told."""
    try:
        it = status(client)
    except StoreAway:
        return ""
    if it.holds:
        hold = it.holds[0]
        end = "until it is resumed" if hold.endless else f"for another {span(hold.left_s)}"
        return f"{hold.scope} is paused {end}: {hold.why}"
    return it.advice or ""


def span(seconds: float | None) -> str:
    """A time for people: 0:07, 12:30, 3:04:05; "?" when it is not known."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _explained(looks: Iterable[Progress]) -> Iterator[Progress]:
    """The looks; beside the first one at a job on which work has not begun, why that is."""
    said = False
    for look in looks:
        if look.not_begun and not said:
            said = True
            click.echo(f"headgate: {look.not_begun}", err=True)
        yield look


class Away:
    """Says once that the store is away, and once that it is back."""

    def __init__(self) -> None:
        self._is_away = False

    def away(self, error: StoreAway) -> None:
        """The store gave no answer to a look."""
        if not self._is_away:
            self._is_away = True
            click.echo(f"headgate: {error}; nothing is lost, looking again", err=True)

    def back(self, looks: Iterable[Progress]) -> Iterator[Progress]:
        """The looks that the store answered."""
        for look in looks:
            if self._is_away:
                self._is_away = False
                click.echo("headgate: the store is back", err=True)
            yield look
