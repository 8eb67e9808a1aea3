"""`headgate recover`: after a restored backup of the store."""

from __future__ import annotations

import json
from datetime import datetime

import click

from orchestration.cli import options
from orchestration.cli.changes import reasoned
from orchestration.operate import recovery


class Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer versions
    """A moment, ISO 8601, without a zone local: a second run must mean the same one."""

    name = "moment"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read it, or say what it looks like; microseconds since the epoch."""
        try:
            found = _us(datetime.fromisoformat(str(value)).astimezone())
        except (ValueError, OverflowError, OSError):
            found = 0
        if found <= 0:
            self.fail(
                f"{value!r} is no moment; use 2026-03-01T02:00:00Z, 2026-03-01T03:00:00+01:00, "
                f"or 2026-03-01T03:00 in local time",
                param,
                ctx,
            )
        return found


@click.command()
@click.option(
    "--since", "since_us", type=Moment(), required=True, metavar="T",
    help="The moment of the backup, an ISO time.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@reasoned
@options.as_json
@options.configured
def command(since_us: int, dry_run: bool, reason: str, by: str, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Treat what is open as maybe sent, after the store was restored from a backup of T.

    Stop all workers first. A transaction that had not ended then is sent again under its key,
    looked up first under guard lookup, and without a guard ended as unknown, a dead letter; and so
    are those of pages that are opened later. The same command may be given again. A time without
    a zone is local; if you do not know it exactly, give an earlier one.

    \b
    Example:  headgate recover --since 2026-03-01T02:00:00Z --reason "disk of the store lost"
    Exit:     0 done, 1 no store, 2 a worker is alive, T is in the future, or wrong usage; then
              nothing was changed
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    its = [clients[name] for name in clients.names()]
    recovery.check(its, since_us)
    found = []
    for client in its:
        if dry_run:
            it = recovery.foresee(client, since_us)
        else:
            it = recovery.recover(client, since_us, by=by, reason=reason)
        found.append(it)
        if not as_json:
            click.echo(f"client {it.client}: {it.text}")
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "clients": [it.as_dict() for it in found]}))


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
