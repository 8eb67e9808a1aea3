"""Kind `contacts`: contacts of a Genesys Cloud contact list, one call each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tasks.calls import id_in
from tasks.kind import Kept, Kind, Planned, Polled
from workers.http import Request
from workers.reconcile import Guard, Sight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.client_settings import ClientSettings
    from workers.governor import Go
    from workers.ledger import Row
    from workers.outcome import Answer


class Contacts(Kind):
    """Rows are contacts; the contact's own id makes each add an upsert."""

    task = "genesys.add_contacts"

    def plan(self, row: Row, about: Mapping[str, Any], client: ClientSettings) -> Sequence[Planned]:
        """One call to the list's contacts."""
        del row, client
        return [Planned(f"POST {_path(about)}", Guard.UPSERT)]

    def request(self, row: Row, about: Mapping[str, Any], grant: Go) -> Request:
        """Add the contact, or update the one of the same id."""
        # A contact that may be there already must not be queued, and so dialled, once more.
        path = f"{_path(about)}?doNotQueue=true" if grant.unknown else _path(about)
        contact = {"id": row["id"], "contactListId": about["list"], "data": row["data"]}
        body = json.dumps([contact], ensure_ascii=False, separators=(",", ":")).encode()
        return Request("POST", path, {"Content-Type": "application/json"}, body)

    def sight(self, row: Row, grant: Go, answer: Answer) -> Sight:
        """Nothing: an upsert is sent again without a look-up."""
        del row, grant, answer
        return Sight.UNSURE

    def polled(self, row: Row, grant: Go, answer: Answer) -> Polled:
        """Nothing: its call is no poll."""
        del row, grant, answer
        return Polled.UNSAID

    def keep(self, row: Row, grant: Go, answer: Answer) -> Kept:
        """The id under which the platform keeps the contact."""
        del row, grant
        return Kept(id_in(answer.json()))


def _path(about: Mapping[str, Any]) -> str:
    return f"/api/v2/outbound/contactlists/{quote(about['list'], safe='')}/contacts"
