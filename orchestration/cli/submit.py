"""`headgate submit KIND FILE`: a file becomes a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestration.cli.options import INTERRUPTED, as_json, clients, configured
from orchestration.intake import Accepted, Checked, Submission, check, find
from orchestration.intake.campaign_contacts import Loads, accept_all, loads_of
from orchestration.intake.readers.media import MEDIA
from orchestration.text import format_count
from workers.errors import InputError
from workers.governor.flows import NO_TENANT, lane_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.ledger.job import Job

_EXIT = (
    "Exit: 0 accepted (bad rows are in the report), 1 not now, 2 wrong usage or input, "
    "130 interrupted (the same command goes on)."
)


@click.group()
def command() -> None:
    """Submit a file of rows as a job."""


def _submits(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command what all kinds of files share."""
    for option in (
        click.option(
            "--again", is_flag=True, help="Send a file again that was submitted before."
        ),
        click.option("--strict", is_flag=True, help="Refuse the whole file for one bad row."),
        click.option(
            "--dry-run", is_flag=True, help="Check everything, accept nothing, say how long."
        ),
        as_json,
        click.option(
            "--lane", metavar="LANE", default="normal", show_default=True,
            help="urgent, normal, bulk, or a priority from 0 to 9.",
        ),
        click.option("--tenant", metavar="NAME", default=NO_TENANT, help="Whose rows these are."),
        click.option("--client", required=True, metavar="NAME", help="Whose quota they use."),
        configured,
    ):  # fmt: skip
        function = option(function)
    return click.argument("file", type=click.Path(path_type=Path))(function)


@command.command(epilog=_EXIT)
@_submits
def calls(client: str, **given: Any) -> None:  # noqa: ANN401 -- the shared options
    """Submit FILE, one JSON object a line: a request, or a chain of steps.

    \b
    Example:  headgate submit calls campaigns.jsonl --client acme --lane urgent
    Line:     {"id": "c1", "method": "POST", "path": "/v2/campaigns", "body": {"name": "May"}}
    Chain:    {"id": "c1", "steps": [
                {"name": "create", "method": "POST", "path": "/v2/campaigns", "body": {}},
                {"name": "start", "method": "POST", "path": "/v2/campaigns/{create.id}/start"}]}
    """
    _submit(client, "calls", **given)


@command.command(epilog=_EXIT)
@_submits
@click.option("--list", "contact_list", required=True, metavar="ID", help="The contact list's id.")
@click.option("--id-column", default="", metavar="NAME", help="Column of the contacts' own ids.")
@click.option(
    "--phone-column", default="", metavar="NAME", help="Column whose numbers are checked."
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1, max=1000),
    metavar="N",
    help="Most contacts in one call; default: what the platform takes, 1000 or 512000 bytes.",
)
def contacts(client: str, **given: Any) -> None:  # noqa: ANN401 -- the shared options
    """Submit FILE, a CSV with a header line: contacts of one contact list.

    \b
    Example:  headgate submit contacts may.csv --client acme --list 7f3a9c --id-column customer
    """
    _submit(client, "contacts", **given)


@command.command(epilog=_EXIT)
@_submits
@click.option(
    "--as",
    "kind",
    type=click.Choice(MEDIA),
    default="prompts",
    show_default=True,
    help="What a file becomes: the audio of an Architect prompt, or a response asset.",
)
@click.option(
    "--language",
    default="en-us",
    show_default=True,
    metavar="CODE",
    help="Of prompts whose rows name none.",
)
def media(client: str, kind: str, **given: Any) -> None:  # noqa: ANN401 -- the shared options
    """Submit FILE, a folder of media files or a manifest of them.

    Of a folder every file counts (for prompts those of audio), in the order of their names, and is
    called by its own name. A manifest is a CSV with a header line, or has one JSON object a line:
    path, and where wanted name and language. Paths begin at the manifest's folder.

    \b
    Example:  headgate submit media prompts/ --client acme --language de-de
    Manifest: path,name,language
              de/welcome.wav,welcome,de-de
              en/welcome.wav,welcome,en-us
    Needs:    headgate worker --for media
    """
    _submit(client, kind, **given)


@command.command(epilog=_EXIT)
@_submits
@click.option(
    "--start/--no-start", default=True, show_default=True,
    help="Start each campaign once its contacts are loaded.",
)  # fmt: skip
def campaigns(client: str, **given: Any) -> None:  # noqa: ANN401 -- the shared options
    """Submit FILE, one JSON object a line: a campaign of Genesys Cloud with a CSV of contacts.

    Each line makes a contact list, loads the contacts, makes the campaign and starts it. Paths of
    contacts are seen from the folder of FILE. `list` may be left out: it takes its name and its
    phoneColumns from the campaign, and its columnNames from the CSV. The contacts are a job of
    their own, which `headgate jobs` shows.

    \b
    Example:  headgate submit campaigns may.jsonl --client acme --no-start
    Line:     {"id": "may", "contacts": "may.csv", "id_column": "customer", "campaign": {
                "name": "May", "dialingMode": "agentless", "outboundLineCount": 5,
                "callerName": "Acme", "callerAddress": "+15550100", "site": {"id": "…"},
                "callAnalysisResponseSet": {"id": "…"},
                "phoneColumns": [{"columnName": "phone", "type": "cell"}]}}
    More:     "list": {"name", "columnNames", "phoneColumns", and the provider's options},
              "may_fail": good contacts that may be missing at the start, 0; "tenant", "lane"
    Modes:    all but agentless need queue and script; all but preview need edgeGroup or site, and
              callAnalysisResponseSet; power and predictive abandonRate, agentless outboundLineCount
    """
    _submit(client, "campaigns", **given)


def _submit(client: str, kind: str, **given: Any) -> None:  # noqa: ANN401 -- the shared options
    try:
        _accept(client, kind, **given)
    except KeyboardInterrupt:
        click.echo("\ninterrupted; the same command goes on where this one ended", err=True)
        raise SystemExit(INTERRUPTED) from None


def _accept(  # noqa: PLR0913 -- the options of the command line
    client: str,
    kind: str,
    *,
    file: Path,
    lane: str,
    as_json: bool,
    dry_run: bool,
    strict: bool,
    again: bool,
    tenant: str,
    **more: Any,  # noqa: ANN401 -- those of the kind
) -> None:
    sender, tenant = clients().sender(client, tenant)
    submission = Submission(
        client=sender, kind=kind, path=file, lane=lane_of(lane), tenant=tenant, **more
    )
    with check(submission) as checked:
        loads = loads_of(submission, checked)
        if strict and (bad := checked.rejected + loads.rejected):
            _say_rejected(checked, loads)
            raise InputError(
                f"{checked.file}: bad rows: {bad:,} of {checked.rows + loads.rows:,}; nothing was "
                f"accepted, correct them or leave out --strict"
            )
        if dry_run:
            done = find(submission, checked, again=again)
        else:
            done = accept_all(submission, checked, loads, again=again)
        answer = {
            "job": done.job,
            "client": sender.name,
            "kind": kind,
            "rows": checked.rows,
            "rejected": checked.rejected,
            "joined": checked.joined,
            "calls": checked.calls + loads.calls,
            "new": done.new,
        }
        if kind == "campaigns":
            answer["contacts"] = loads.as_dict()
        duration_s = checked.duration_s(submission)
        if dry_run:
            answer |= {"dry_run": True, "duration_s": round(duration_s, 1)}
        if done.new:
            _say_rejected(checked, loads)
            click.echo(
                f"{checked.file}: {_counts(checked, 'row')}{_of_contacts(loads)}; "
                f"{format_count(checked.calls + loads.calls, 'call')}, {_span(duration_s)}",
                err=True,
            )
        click.echo(_outcome(checked, done, dry_run=dry_run), err=True)
        click.echo(json.dumps(answer) if as_json else done.job)


def _counts(it: Checked | Loads, thing: str) -> str:
    rows = format_count(it.rows, thing)
    return f"{rows}, {it.rejected:,} rejected, {it.joined:,} joined to an earlier one"


def _of_contacts(loads: Loads) -> str:
    return f", with {_counts(loads, 'contact')}" if loads.rows else ""


def _say_rejected(checked: Checked, loads: Loads) -> None:
    for line, reason in checked.reasons:
        click.echo(f"line {line}: {reason}", err=True)
    if more := checked.rejected - len(checked.reasons):
        click.echo(f"and {more:,} more", err=True)
    for said in loads.reasons:
        click.echo(said, err=True)


def _outcome(checked: Checked, done: Accepted, *, dry_run: bool) -> str:
    if not done.new:
        return (
            f"{checked.file} was submitted before as {done.job} ({_state(done.stored)}); nothing "
            f"was added or changed, use --again to send it again"
        )
    if dry_run:
        return f"dry run: nothing was accepted; the job will be {done.job}"
    return f"accepted; follow it with: headgate watch {done.job}"


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
