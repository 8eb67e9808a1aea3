"""Shows the looks at a job: as JSON, as plain lines, or as a bar that moves on a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestration.text import format_count, format_duration
from orchestration.views.status import status
from workers.errors import STORE_FAILS, StoreAway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestration.views.progress import Progress
    from workers.clients import Client

#: A plain line is printed after so many looks.
PLAIN_LOOKS: Final = 5
#: A job that has not moved for so many looks may wait for something that a person can change.
_STILL_LOOKS: Final = 4

_COLOURS: Final = {"succeeded": "green", "failed": "red", "unknown": "red", "rejected": "yellow"}


def show_json(looks: Iterable[Progress]) -> Progress:
    """Print one JSON object a look; returns the last look."""
    for look in looks:
        click.echo(json.dumps(look.as_dict()))
    return look


def show_plain(looks: Iterable[Progress]) -> Progress:
    """Print a line now and then, and one for the end; returns the last look."""
    for number, look in enumerate(looks):
        if number % PLAIN_LOOKS == 0 or look.state == "finished":
            click.echo(format_look(look))
    return look


def show_live(looks: Iterable[Progress], client: Client | None = None) -> Progress:
    """Show a bar that moves, for terminals; returns the last look.

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
            elif client and look.state == "running" and still and still % _STILL_LOOKS == 0:
                advice = explain_still(client)
            elif not still:
                advice = ""
            display.update(draw_look(look, advice), refresh=True)
    return look


def format_look(look: Progress) -> str:
    """The look on one line."""
    counts = ", ".join(f"{count:,} {word}" for word, count in look.counts.items() if count)
    parts = [
        f"{look.ended:,} of {format_count(look.rows, 'row')}",
        counts,
        f"{look.in_flight} in flight" if look.in_flight else "",
        f"{look.rate_per_s:.1f}/s" if look.rate_per_s is not None else "",
        f"429s {look.throttled}",
        f"{format_duration(look.eta_s)} left" if look.eta_s else "",
    ]
    return f"{look.job}  {look.state}  " + "  ".join(part for part in parts if part)


def draw_look(look: Progress, advice: str = "") -> Group:
    """The look as a terminal shows it."""
    finished = look.state == "finished"
    rate = "" if look.rate_per_s is None else f"{look.rate_per_s:.1f}/s"
    if finished and look.finished_us:
        left = f"in {format_duration((look.finished_us - look.started_us) / 1e6)}"
    else:
        left = look.state if look.not_begun else f"ETA {format_duration(look.eta_s)}"
    bar = Table.grid(padding=(0, 2, 0, 0))
    bar.add_row(
        ProgressBar(total=max(1, look.rows), completed=look.ended, width=40),
        Text(f"{look.ended / max(1, look.rows):4.0%}", "bold"),
        Text(f"{look.ended:,} of {look.rows:,}"),
        Text(rate, "cyan"),
        Text(left),
    )
    parent = f", of campaign {look.of[1]} in {look.of[0]}" if look.of else ""
    owner = (f"client {look.client}{parent}", "dim")
    head = Text.assemble((look.kind, "bold"), f" {look.job}  ", owner)
    return Group(head, bar, _draw_counts(look), *([Text(advice, "yellow")] if advice else []))


def _draw_counts(look: Progress) -> Text:
    """How many rows are in each state, and the answers of 429."""
    shown = {word: count for word, count in look.counts.items() if count or word == "succeeded"}
    if look.state != "finished":
        shown |= {"waiting": look.waiting, "in flight": look.in_flight}
    shown["429s"] = look.throttled
    counts = Text()
    for word, count in shown.items():
        colour = _COLOURS.get(word, "red" if word == "429s" and count else "default")
        counts.append(f"{word} ", "dim").append(f"{count:,}", colour if count else "default")
        counts.append("   ")
    return counts


def explain_still(client: Client) -> str:
    """What keeps a job from moving; "" when the status does not say."""
    try:
        shown = status(client)
    except STORE_FAILS:
        return ""
    if shown.failures:
        return shown.failures[0].sentence
    if shown.holds:
        return shown.holds[0].sentence
    return shown.advice or ""


def explain_not_begun(looks: Iterable[Progress]) -> Iterator[Progress]:
    """Pass the looks on; at the first one on which work has not begun, print why."""
    explained = False
    for look in looks:
        if look.not_begun and not explained:
            explained = True
            click.echo(f"headgate: {look.not_begun}", err=True)
        yield look


class StoreWatch:
    """Says once that the store is away, and once that it is back."""

    def __init__(self) -> None:
        self._is_away = False

    def report_away(self, error: StoreAway) -> None:
        """Note that the store gave no answer to a look."""
        if not self._is_away:
            self._is_away = True
            click.echo(f"headgate: {error}; nothing is lost, looking again", err=True)

    def report_return(self, looks: Iterable[Progress]) -> Iterator[Progress]:
        """Pass on the looks that the store answered."""
        for look in looks:
            if self._is_away:
                self._is_away = False
                click.echo("headgate: the store is back", err=True)
            yield look
