"""`headgate dead`: transactions that ended without success, and how a person settles them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from orchestration.cli.audit import format_entry
from orchestration.cli.changes import reasoned
from orchestration.operate import dead_letters
from orchestration.text import escape_controls, format_count, format_moment
from orchestration.views import steps
from orchestration.views.find import find_transactions
from workers.errors import StoreAway
from workers.ledger.ledger import Replayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestration.operate.dead_letters import Letter, Story
    from workers.clients import Client
    from workers.ledger.transaction import Transaction

#: Dead letters that are printed, unless more are asked for.
_PRINTED: Final = 100

#: Why a transaction was not replayed.
_REFUSED: Final = {
    Replayed.NOT_DEAD: "is not dead, and was left as it is",
    Replayed.UNSURE: (
        "may have been executed, and nothing guards a second send: check at the provider first, "
        "and if it was not executed, replay it with --not-executed"
    ),
}


@click.group()
def command() -> None:
    """Show transactions that ended without success; let them go on, or settle them as they are."""


@command.command("list")
@click.argument("client", required=False)
@click.option(
    "--most", type=click.IntRange(1, 1_000_000), default=_PRINTED, show_default=True, metavar="N",
    help="Print at most so many, the newest ones.",
)  # fmt: skip
@options.as_json
@options.configured
def list_letters(client: str | None, most: int, *, as_json: bool) -> None:
    """List the dead letters of one CLIENT or of all, one line each, the newest last.

    \b
    Each line: when, client, job, line of the file, key, and how, where and why it ended. A
    transaction that is replayed or discarded leaves the list.

    \b
    Example:  headgate dead list acme
    Exit:     0 listed, 1 no store, 2 wrong usage
    """
    clients = options.clients()
    names = [client] if client else clients.names()
    letters, total = dead_letters.newest([clients[name] for name in names], most)
    if as_json:
        answer = {"total": total, "letters": [letter.as_dict() for letter in letters]}
        click.echo(json.dumps(answer))
    else:
        for letter in letters:
            click.echo(_format_letter(letter))
    if not total:
        click.echo("there are no dead letters", err=True)
    elif total > len(letters):
        click.echo(f"the newest {len(letters)} of {total:,}; --most {total} shows all", err=True)


@command.command("show")
@click.argument("key")
@options.as_json
@options.configured
def show_transaction(key: str, *, as_json: bool) -> None:
    """Show everything that is known of the transaction KEY, except the contents of its rows.

    The transaction need not be a dead letter.

    \b
    Example:  headgate dead show 5f0c7a52-1c9e-8d11-9a3b-0f6c2d4e8b17
    Exit:     0 shown, 1 no store, 2 no such transaction or wrong usage
    """
    client, transaction = find_transactions(options.clients(), [key])[key]
    story = dead_letters.story(client, transaction)
    if as_json:
        click.echo(json.dumps(story.as_dict()))
        return
    click.secho(f"transaction {key}", bold=True)
    for name, text in _list_facts(story):
        click.echo(f"  {name:12}  {escape_controls(text)}")


@command.command("replay")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option(
    "--not-executed", is_flag=True,
    help="You looked at the provider: what was sent last was not executed.",
)  # fmt: skip
@reasoned
@options.configured
def replay_transactions(keys: tuple[str, ...], reason: str, by: str, *, not_executed: bool) -> None:
    """Let dead transactions go on: each waits again, under its KEY, at the step where it stopped.

    Steps that are done are not repeated. When the outcome of the last send is unknown, guard key or
    upsert repeats it, and guard lookup looks it up first. Without a guard the replay is refused
    until you have looked at the provider and give --not-executed. The audit keeps what you state. A
    transaction that is not dead is left as it is, so you may give the same command again.

    \b
    Example:  headgate dead replay 5f0c7a52-1c9e-8d11-9a3b-0f6c2d4e8b17 --reason "list is there"
    Exit:     0 all wait again, 1 some were left as they are or no store, 2 no such transaction
              or wrong usage; then nothing was changed
    """

    def replay(client: Client, transaction: Transaction) -> str | None:
        place = steps.steps_of(client, transaction).place
        replayed = dead_letters.replay(
            client, transaction, not_executed=not_executed, by=by, reason=reason
        )
        if replayed is Replayed.WAITS:
            return f"{transaction.key} waits again{place}"
        click.echo(f"headgate: {transaction.key} {_REFUSED[replayed]}", err=True)
        return None

    _settle_each(keys, replay, "wait again")


@command.command("discard")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@reasoned
@options.configured
def discard_transactions(keys: tuple[str, ...], reason: str, by: str) -> None:
    """Settle dead transactions without sending: each KEY leaves the list and is never sent again.

    The row keeps its state, `failed` or `unknown`, in the report and in the counts of its job. Use
    it when you know what the provider did, or want nothing more to be done. It cannot be taken
    back: a replay is refused from then on. The audit keeps who discarded it and why.

    \b
    Example:  headgate dead discard 5f0c7a52-1c9e-8d11-9a3b-0f6c2d4e8b17 --reason "it is there"
    Exit:     0 all left the list, 1 some were left as they are or no store, 2 no such transaction
              or wrong usage; then nothing was changed
    """

    def discard(client: Client, transaction: Transaction) -> str | None:
        if dead_letters.discard(client, transaction, by=by, reason=reason):
            return f"{transaction.key} stays {transaction.state} and is never sent again"
        click.echo(f"headgate: {transaction.key} {_REFUSED[Replayed.NOT_DEAD]}", err=True)
        return None

    _settle_each(keys, discard, "left the list")


def _settle_each(
    keys: tuple[str, ...], settle: Callable[[Client, Transaction], str | None], settled: str
) -> None:
    """Settle each transaction; `settle` answers what became of it, or None when nothing did."""
    transactions, done = find_transactions(options.clients(), keys), 0
    for client, transaction in transactions.values():
        try:
            text = settle(client, transaction)
        except StoreAway as error:
            raise StoreAway(
                f"{error}; {done} of {format_count(len(transactions), 'transaction')} {settled}, "
                f"give the same command for the rest"
            ) from None
        if text:
            done += 1
            click.echo(text)
    raise SystemExit(0 if done == len(transactions) else 1)


def _format_letter(letter: Letter) -> str:
    more = f" and {letter.rows - 1:,} more" if letter.rows > 1 else ""
    line = f"line {'?' if letter.line is None else letter.line}{more}"
    when = format_moment(letter.at_ms * 1000)
    parts = (when, letter.client, letter.job, line, letter.key, letter.text)
    return escape_controls("  ".join(parts))


def _list_facts(story: Story) -> Iterator[tuple[str, str]]:
    """What applies to a transaction: each fact with its name."""
    shared = f", which {story.rows - 1} more share" if story.rows > 1 else ""
    line = "?" if story.line is None else story.line
    yield "row", f"{story.client}  {story.job}  line {line}{shared}"
    since = "" if story.died_ms is None else f" since {format_moment(story.died_ms * 1000)}"
    yield "state", f"{story.state}{story.steps.place}{since}"
    if story.error:
        yield "error", story.error
    if story.steps.done:
        yield "done", steps.format_done(story.steps.done)
    yield "guard", story.guard
    counts = f"answers of 429 {story.throttled}, workers that died {story.crashes}"
    yield "attempts", f"{story.attempts}, {counts}"
    if story.first_sent_us:
        yield "first sent", format_moment(story.first_sent_us)
    named = {
        "status": story.status,
        "id": story.provider_id,
        "correlation": story.correlation_id,
    }
    for name, value in named.items():
        if value:
            yield name, str(value)
    for entry in story.audit:
        yield "audit", format_entry(entry)
