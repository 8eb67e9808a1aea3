"""Steps of kind `contacts`: contacts of a Genesys Cloud list, as many in a call as it takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks.genesys.operations import OPERATIONS, advice, pick
from tasks.kind import Packing, StepKind, StepPlan, StepResult
from tasks.rest.calls import id_in
from workers.http.connection import Request
from workers.ledger.batch import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.answer.outcome import Answer
    from workers.governor.grants import Grant
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings


_ADD = OPERATIONS["add_contacts"]


class ContactSteps(StepKind):
    """Rows are contacts; their own ids make each add an upsert."""

    task = "genesys.add_contacts"
    operations = pick("add_contacts")
    #: The platform's documented limits of one call.
    packing = Packing(rows=1000, size=512_000)

    def size(self, row: Row, params: JobParams) -> int:
        """Bytes of the contact as it is sent, and of the comma behind it."""
        return len(_encode(_contact(row, params)).encode()) + 1

    def plan(self, row: Row, params: JobParams, client: ClientSettings) -> Sequence[StepPlan]:
        """One call to the list's contacts."""
        del row, client
        return [StepPlan(f"{_ADD.method} {_ADD.at(params.contact_list)}", _ADD.guard)]

    def request(self, row: Row, params: JobParams, grant: Grant) -> Request:
        """Add the contacts, or update those of the same ids."""
        # Contacts that may be there already must not be queued, and so dialled, once more.
        path = _ADD.at(params.contact_list) + ("?doNotQueue=true" if grant.unknown else "")
        body = _encode([_contact(contact, params) for contact in rows_of(row)]).encode()
        return Request(_ADD.method, path, {"Content-Type": "application/json"}, body)

    def advise(self, route: str, status: int | None) -> str:
        """What to do where the list is not there."""
        return advice(route, status)

    def keep(self, row: Row, grant: Grant, answer: Answer) -> StepResult:
        """The platform's id of the contact; none of a batch: its contacts have the ids we sent."""
        del grant
        return StepResult(id_in(answer.json()) if len(rows_of(row)) == 1 else "")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _contact(row: Row, params: JobParams) -> dict[str, Any]:
    return {"id": row["id"], "contactListId": params.contact_list, "data": row["data"]}
