"""`headgate dead`: transactions that ended without success, and their replay."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import audit, options
from orchestration.cli.changes import reasoned
from orchestration.operate import dead_letters
from orchestration.text import counted, printable
from orchestration.views.find import find_transactions
from orchestration.views.steps import format_done, steps_of
from workers.errors import StoreAway
from workers.ledger.ledger import Replayed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.operate.dead_letters import Letter, Story

#: So many dead letters are shown, unless more are asked for.
SHOWN: Final = 100

#: Why a dead letter, or what is none, was not replayed.
_LEFT: Final = {
    Replayed.NOT_DEAD: "is not dead, and was left as it is",
    Replayed.UNSURE: (
        "may have been executed, and nothing guards a second send: check at the provider first, "
        "and if it was not executed, replay it with --not-executed"
    ),
}


@click.group()
def command() -> None:
    """Show transactions that ended without success, and let them go on where they stopped."""


@command.command("list")
@click.argument("client", required=False)
@click.option(
    "--most", type=click.IntRange(1, 1_000_000), default=SHOWN, show_default=True, metavar="N",
    help="Show so many at the most, the newest ones.",
)  # fmt: skip
@options.as_json
@options.configured
def list_letters(client: str | None, most: int, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """List the dead letters of one CLIENT or of all, one line each, the newest last.

    \b
    Each line: when, client, job, line of the file, key, and how, where and why it ended. A line
    that was replayed is gone from here.

    \b
    Example:  headgate dead list acme
    Exit:     0 listed, 1 no store, 2 wrong usage
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    names = [client] if client else clients.names()
    letters, total = dead_letters.newest([clients[name] for name in names], most)
    if as_json:
        click.echo(json.dumps({"total": total, "letters": [it.as_dict() for it in letters]}))
    else:
        for it in letters:
            click.echo(_line(it))
    if not total:
        click.echo("there are no dead letters", err=True)
    elif total > len(letters):
        click.echo(f"the newest {len(letters)} of {total:,}; --most {total} shows all", err=True)


@command.command()
@click.argument("key")
@options.as_json
@options.configured
def show(key: str, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Show what is known of the transaction KEY, dead or not, except the content of its rows.

    \b
    Example:  headgate dead show 5f0c7a52-1c9e-8d11-9a3b-0f6c2d4e8b17
    Exit:     0 shown, 1 no store, 2 no such transaction or wrong usage
    """  # noqa: D301 -- click wants the character itself
    client, transaction = find_transactions(options.clients(), [key])[key]
    it = dead_letters.story(client, transaction)
    if as_json:
        click.echo(json.dumps(it.as_dict()))
        return
    click.secho(f"transaction {key}", bold=True)
    for name, text in _facts(it):
        click.echo(f"  {name:12}  {printable(text)}")


@command.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option(
    "--not-executed", is_flag=True,
    help="You looked at the provider: what was sent last was not executed.",
)  # fmt: skip
@reasoned
@options.configured
def replay(keys: tuple[str, ...], not_executed: bool, reason: str, by: str) -> None:  # noqa: FBT001 -- as click
    """Let dead transactions go on: each waits again, under its KEY, at the step where it stopped.

    What is done stays done. A last send of unknown outcome is repeated under guard key or upsert,
    and looked up first under guard lookup. Without a guard it is refused, until you have looked at
    the provider and state --not-executed. All that is said stands in the audit. What is not dead
    is left as it is, so that the same command may be given again.

    \b
    Example:  headgate dead replay 5f0c7a52-1c9e-8d11-9a3b-0f6c2d4e8b17 --reason "list is there"
    Exit:     0 all wait again, 1 some were left as they are or no store, 2 no such transaction
              or wrong usage; then nothing was changed
    """  # noqa: D301 -- click wants the character itself
    transactions, waits = find_transactions(options.clients(), keys), 0
    for key, (client, transaction) in transactions.items():
        try:
            place = steps_of(client, transaction).place
            replayed = dead_letters.replay(
                client, transaction, not_executed=not_executed, by=by, reason=reason
            )
        except StoreAway as error:
            raise StoreAway(
                f"{error}; {waits} of {counted(len(transactions), 'transaction')} wait again, give "
                f"the same command for the rest"
            ) from None
        if replayed is Replayed.WAITS:
            waits += 1
            click.echo(f"{key} waits again{place}")
        else:
            click.echo(f"headgate: {key} {_LEFT[replayed]}", err=True)
    raise SystemExit(0 if waits == len(transactions) else 1)


def _line(it: Letter) -> str:
    more = f" and {it.rows - 1:,} more" if it.rows > 1 else ""
    line = f"line {'?' if it.line is None else it.line}{more}"
    parts = (_when(it.at_ms), it.client, it.job, line, it.key, it.text)
    return printable("  ".join(parts))


def _facts(it: Story) -> Iterator[tuple[str, str]]:
    """What applies of a transaction, each with its name."""
    rows = f", which {it.rows - 1} more share" if it.rows > 1 else ""
    yield "row", f"{it.client}  {it.job}  line {'?' if it.line is None else it.line}{rows}"
    since = "" if it.died_ms is None else f" since {_when(it.died_ms)}"
    yield "state", f"{it.state}{it.steps.place}{since}"
    if it.error:
        yield "error", it.error
    if it.steps.done:
        yield "done", format_done(it.steps.done)
    yield "guard", it.guard
    counts = f"{it.attempts}, answers of 429 {it.throttled}, workers that died {it.crashes}"
    yield "attempts", counts
    if it.first_sent_us:
        yield "first sent", _when(it.first_sent_us // 1000)
    named = {"status": it.status, "id": it.provider_id, "correlation": it.correlation_id}
    for name, value in named.items():
        if value:
            yield name, str(value)
    for entry in it.audit:
        yield "audit", audit.line(entry)


def _when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
