"""A little package that brings a kind of its own, installed in a folder as pip would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: Rows are lines of text, one ticket a line; a ticket is made by one call.
TICKETS: Final = """
from __future__ import annotations

from dataclasses import dataclass, field

from orchestration.intake import Options, option
from orchestration.intake.readers import FileRows, Source
from orchestration.intake.readers.rows import reject
from orchestration.kinds import ANY_PLATFORM, Command, Kind
from tasks import StepPlan, StepKind
from workers.answer.guards import Guard
from workers.http.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketOptions(Options):
    queue: str = field(metadata=option("--queue", metavar="NAME", help="Who gets the tickets."))


class TicketSteps(StepKind):
    task = "tickets.open"

    def plan(self, row, params, client):
        return [StepPlan("POST /things", Guard.KEY)]

    def request(self, row, params, grant):
        body = b'{"business_id": "%s"}' % f"{params.own['queue']}-{row['id']}".encode()
        return Request("POST", "/things", {"Content-Type": "application/json"}, body)


class Tickets(Kind[TicketOptions]):
    name = "tickets"
    command = Command(name="tickets", help="Submit FILE, one ticket a line.")
    steps = TicketSteps()
    options = TicketOptions
    platform = ANY_PLATFORM

    def read(self, submission, check):
        source = Source(submission.path)
        return FileRows(source, self.rows(source))

    def rows(self, lines):
        for number, text in lines:
            name = text.strip()
            yield {"line": number, "id": name} if name else reject(number, "is empty")

    def scope(self, options):
        return (options.queue,)

    def own_params(self, options):
        return {"own": {"queue": options.queue}}


TICKETS = Tickets()
"""


def install(folder: Path, entry: str = "ticket_kind:TICKETS", code: str = TICKETS) -> Path:
    """Install the distribution `ticket-kind` in a folder, which belongs on `sys.path` then.

    Args:
        folder: Where its module and its metadata go.
        entry: What its entry point of the group `headgate.kinds` names.
        code: Its module `ticket_kind`.
    """
    info = folder / "ticket_kind-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ticket-kind\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[headgate.kinds]\ntickets = {entry}\n")
    (folder / "ticket_kind.py").write_text(code)
    return folder
