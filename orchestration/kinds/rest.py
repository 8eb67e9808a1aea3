"""The kind for any REST API: rows that say themselves what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from orchestration.intake.kind import Command, Kind
from orchestration.intake.readers import steps as steps_fields
from orchestration.intake.readers.calls import (
    CHAIN_FIELDS,
    NAMED_STEP_FIELDS,
    ROW_FIELDS,
    STEP_FIELDS,
    read_calls,
)
from orchestration.intake.readers.source import FileRows, Source
from orchestration.intake.submission import Options
from tasks.kind import ANY_PLATFORM
from tasks.rest.calls import CallSteps

if TYPE_CHECKING:
    from orchestration.intake.kind import Check
    from orchestration.intake.submission import Submission


class Calls(Kind[Options]):
    """Rows are requests, or chains of them."""

    name = "calls"
    command = Command(
        name="calls",
        help="""Submit FILE, one JSON object a line: a request, or a chain of steps.

        \b
        Example:  headgate submit calls campaigns.jsonl --client acme --lane urgent
        Line:     {"id": "c1", "method": "POST", "path": "/v2/campaigns", "body": {"name": "May"}}
        Chain:    {"id": "c1", "steps": [
                    {"name": "create", "method": "POST", "path": "/v2/campaigns", "body": {}},
                    {"name": "start", "method": "POST", "path": "/v2/campaigns/{create.id}/start"}]}
        """,
    )
    steps = CallSteps()
    options = Options
    platform = ANY_PLATFORM
    fields: ClassVar = {
        "row of one request": {**ROW_FIELDS, **STEP_FIELDS},
        "row of a chain": CHAIN_FIELDS,
        "step of a chain": NAMED_STEP_FIELDS,
        "lookup": steps_fields.LOOKUP_FIELDS,
        "condition": steps_fields.CONDITION_FIELDS,
        "poll": steps_fields.POLL_FIELDS,
    }

    def read(self, submission: Submission[Options], check: Check) -> FileRows:
        """One row a line."""
        del check
        source = Source(submission.path)
        return FileRows(source, read_calls(source, submission.client.settings()))


REST_KINDS: Final = (Calls(),)
