"""`headgate submit KIND FILE`: a file becomes a job.

The commands come from the list of kinds: one for each `Command`, with the options that all kinds
share and those of the kind.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestration.cli import options as shared
from orchestration.intake import Submission, accept, check, find
from orchestration.kinds import all_kinds
from orchestration.text import format_count
from workers.errors import InputError
from workers.governor.flows import NO_TENANT, lane_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestration.intake import Accepted, Checked, Options
    from orchestration.intake.submission import Loads
    from orchestration.kinds import Kind
    from workers.ledger.job import Job


_EXIT = (
    "Exit: 0 accepted (bad rows are in the report), 1 not now, 2 wrong usage or input, "
    "130 interrupted (the same command goes on)."
)


class _Submits(click.Group):
    """One command for each `Command` of the kinds, also of those that other packages bring."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, sorted."""
        del ctx
        return sorted({kind.command.name for kind in all_kinds().values()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        del ctx
        kinds = [kind for kind in all_kinds().values() if kind.command.name == cmd_name]
        return _command_of(kinds) if kinds else None


@click.command(cls=_Submits)
def command() -> None:
    """Submit a file of rows as a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """The values of the options that all kinds share."""

    file: Path
    client: str
    tenant: str
    lane: str
    as_json: bool
    dry_run: bool
    strict: bool
    again: bool


def _command_of(kinds: Sequence[Kind[Any]]) -> click.Command:
    """`headgate submit NAME`, for one kind or for several that share the command."""
    by_name = {kind.name: kind for kind in kinds}

    @click.command(kinds[0].command.name, help=kinds[0].command.help, epilog=_EXIT)
    @click.argument("file", type=click.Path(path_type=Path))
    @shared.configured
    @click.option("--client", required=True, metavar="NAME", help="Whose quota they use.")
    @click.option("--tenant", metavar="NAME", default=NO_TENANT, help="Whose rows these are.")
    @click.option(
        "--lane",
        metavar="LANE",
        default="normal",
        show_default=True,
        help="urgent, normal, bulk, or a priority from 0 to 9.",
    )
    @shared.as_json
    @click.option("--dry-run", is_flag=True, help="Check everything, accept nothing, say how long.")
    @click.option("--strict", is_flag=True, help="Refuse the whole file for one bad row.")
    @click.option("--again", is_flag=True, help="Send a file again that was submitted before.")
    def submit(kind: str = kinds[0].name, **given: Any) -> None:  # noqa: ANN401 -- click's values
        order = _Order(**{field.name: given.pop(field.name) for field in fields(_Order)})
        try:
            _submit(order, by_name[kind], by_name[kind].options(**given))
        except KeyboardInterrupt:
            click.echo("\ninterrupted; the same command goes on where this one ended", err=True)
            raise SystemExit(shared.INTERRUPTED) from None

    submit.params += _own_options(kinds)
    return submit


def _own_options(kinds: Sequence[Kind[Any]]) -> Iterator[click.Option]:
    """The options of one command beside those that all kinds share."""
    if len(kinds) > 1:
        yield click.Option(
            ["--as", "kind"],
            type=click.Choice([kind.name for kind in kinds]),
            default=kinds[0].name,
            show_default=True,
            help=kinds[0].command.choice,
        )
    for field in fields(kinds[0].options):
        if "option" not in field.metadata:
            continue
        names, attributes = field.metadata["option"]
        if field.default is MISSING:
            attributes = {**attributes, "required": True}
        else:
            attributes = {**attributes, "default": field.default}
        yield click.Option([*names, field.name], **attributes)


def _submit(order: _Order, kind: Kind[Any], options: Options) -> None:
    """Check the file; then accept it, unless it is a dry run."""
    client, tenant = shared.clients().sender(order.client, order.tenant)
    submission = Submission(
        client=client,
        path=order.file,
        lane=lane_of(order.lane),
        tenant=tenant,
        options=options,
    )
    with check(kind, submission) as checked:
        if order.strict:
            _require_all_good(checked)
        if order.dry_run:
            accepted = find(submission, checked, again=order.again)
        else:
            accepted = accept(kind, submission, checked, again=order.again)
        duration_s = checked.duration_s(submission)
        if accepted.new:
            _say_counts(checked, duration_s)
        click.echo(_outcome(checked, accepted, dry_run=order.dry_run), err=True)
        if not order.as_json:
            click.echo(accepted.job)
            return
        answer = _as_dict(kind, submission, checked, accepted)
        if order.dry_run:
            answer |= {"dry_run": True, "duration_s": round(duration_s, 1)}
        click.echo(json.dumps(answer))


def _require_all_good(checked: Checked) -> None:
    loads = checked.loads
    if bad := checked.rejected + loads.rejected:
        _say_rejected(checked)
        raise InputError(
            f"{checked.file}: bad rows: {bad:,} of {checked.rows + loads.rows:,}; nothing was "
            f"accepted, correct them or leave out --strict"
        )


def _as_dict(
    kind: Kind[Any], submission: Submission[Options], checked: Checked, accepted: Accepted
) -> dict[str, Any]:
    """The outcome as programs get it."""
    loads = checked.loads
    answer: dict[str, Any] = {
        "job": accepted.job,
        "client": submission.client.name,
        "kind": kind.name,
        "rows": checked.rows,
        "rejected": checked.rejected,
        "joined": checked.joined,
        "calls": checked.calls + loads.calls,
        "new": accepted.new,
    }
    if kind.contacts is not None:
        answer["contacts"] = {name: getattr(loads, name) for name in loads.COUNTS}
    return answer


def _say_counts(checked: Checked, duration_s: float) -> None:
    loads = checked.loads
    _say_rejected(checked)
    contacts = f", with {_counts(loads, 'contact')}" if loads.rows else ""
    calls = format_count(checked.calls + loads.calls, "call")
    click.echo(
        f"{checked.file}: {_counts(checked, 'row')}{contacts}; {calls}, {_span(duration_s)}",
        err=True,
    )


def _counts(read: Checked | Loads, thing: str) -> str:
    rows = format_count(read.rows, thing)
    return f"{rows}, {read.rejected:,} rejected, {read.joined:,} joined to an earlier one"


def _say_rejected(checked: Checked) -> None:
    for line, why in checked.reasons:
        click.echo(f"line {line}: {why}", err=True)
    if more := checked.rejected - len(checked.reasons):
        click.echo(f"and {more:,} more", err=True)
    for reason in checked.loads.reasons:
        click.echo(reason, err=True)


def _outcome(checked: Checked, accepted: Accepted, *, dry_run: bool) -> str:
    if not accepted.new:
        return (
            f"{checked.file} was submitted before as {accepted.job} ({_state(accepted.stored)}); "
            f"nothing was added or changed, use --again to send it again"
        )
    if dry_run:
        return f"dry run: nothing was accepted; the job will be {accepted.job}"
    return f"accepted; follow it with: headgate watch {accepted.job}"


def _state(job: Job | None) -> str:
    if job is None:
        return "lost since"
    counts = [f"{count:,} {state}" for state, count in job.counts.items() if count]
    if job.finished_us is None:
        counts.append(f"{job.rows - job.ended:,} still open")
    return ", ".join(counts)


def _span(duration_s: float) -> str:
    """How long, for people."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    if not duration_s:
        return "no limit holds them back"
    if hours:
        return f"about {hours:,} h {minutes} min at the governed rate"
    if minutes:
        return f"about {minutes} min {seconds} s at the governed rate"
    return f"about {max(1, seconds)} s at the governed rate"
