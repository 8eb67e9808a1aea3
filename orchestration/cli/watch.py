"""`headgate watch`: a job's progress as it happens."""

from __future__ import annotations

from typing import Final

import click
from rich.console import Console

from orchestration.cli import options
from orchestration.cli.hold_watch import HoldWatch
from orchestration.cli.progress_display import (
    StoreWatch,
    explain_not_begun,
    show_json,
    show_live,
    show_plain,
)
from orchestration.views.find import find_job
from orchestration.views.progress import follow

#: Seconds between two looks: for a terminal, and for programs and plain text.
_LIVE_S: Final = 0.5
_PLAIN_S: Final = 1.0


@click.command()
@click.argument("job")
@options.as_json
@options.configured
def command(job: str, *, as_json: bool) -> None:
    """Follow JOB until its last row has ended: counts, rate, time left and answers of 429.

    It says why nothing moves: when something begins to hold the client of the job, changes, and
    ends. A terminal shows it below the bar, else each is a line on the error output.

    Ctrl-C ends the watching; the job goes on.

    \b
    Example:  headgate watch c-1f0c6d2a9b34
    Exit:     0 all rows succeeded, 1 some did not or no store, 2 no such job or wrong usage,
              130 interrupted
    """
    client, _ = find_job(options.clients(), job)
    live = not as_json and Console().is_terminal
    store = StoreWatch()
    every_s = _LIVE_S if live else _PLAIN_S
    looks = store.report_return(follow(client, job, every_s=every_s, away=store.report_away))
    if not live:
        looks = HoldWatch(client).report(explain_not_begun(looks))
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
