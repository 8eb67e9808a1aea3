"""`submit_transaction`: one business operation from Python, on the same path as a row of a file.

    made = submit_transaction("acme", steps, id="order-4711")
    made.wait(timeout_s=60).state

It is a job of one row, so that the ledger sees it to its end whatever dies meanwhile, and
`headgate jobs`, `watch` and `report` show it.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.accept import TRANSACTION_BYTES, low_water, require_room
from orchestration.intake.check import forgotten, may_be_unguarded, require, weak_guard
from orchestration.intake.readers.calls import read_calls
from orchestration.intake.readers.source import MAX_LINE
from orchestration.intake.submission import Options, Submission
from orchestration.kinds.registry import find_kind
from orchestration.views.report import line_of
from workers.clients import clients
from workers.errors import HeadgateError, InputError, NotNow
from workers.governor.flows import NO_TENANT, lane_of
from workers.ledger.identity import payload_hash
from workers.ledger.ledger import FINAL, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.views.report import Line
    from workers.clients import Client
    from workers.ledger.ledger import Row

#: Seconds between two looks of `wait`: the first pause, doubled up to the second.
LOOK_S: Final = (0.05, 1.0)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that was submitted; another process may make the same one again."""

    key: str  #: its idempotency key
    job: str  #: name of its job, for `headgate watch` and `report`
    id: str
    new: bool  #: False: it was submitted before, and nothing was added
    _client: Client = field(repr=False, compare=False)

    def state(self) -> Line:
        """What has become of it, in one round trip to the store (two before it is opened).

        Its `state` is `waiting`, `in_flight` or a final word: `succeeded`, `failed`, `unknown`,
        `cancelled`, `expired`. `status`, `provider_id` and `error` are those of its newest answer.

        Raises:
            StoreAway: the store gives no answer.
            HeadgateError: it has lost the transaction.
        """
        ledger = self._client.ledger
        found = ledger.transaction(self.key)
        if not found and not ledger.job(self.job):
            raise HeadgateError(f"the store has lost transaction {self.id}; submit it again")
        return line_of(self._client, {"line": 1, "id": self.id}, self.key, found)

    def wait(self, timeout_s: float) -> Line:
        """Look until it has ended, or for `timeout_s` seconds; returns the last look.

        Its `state` tells which: a wait that was too short is no error.
        """
        ends_s = time.monotonic() + timeout_s
        pause_s, most_s = LOOK_S
        while True:
            line = self.state()
            left_s = ends_s - time.monotonic()
            if line.state in FINAL or left_s <= 0:
                return line
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, most_s)


def submit_transaction(  # noqa: PLR0913 -- what a row has
    client: str,
    steps: Sequence[dict[str, Any]],
    *,
    id: str,  # noqa: A002 -- as in the line of a file
    lane: str | int = "normal",
    tenant: str | None = None,
    config: str | None = None,
) -> Transaction:
    """Submit one transaction; whoever submits it again gets the same one.

    The key is derived from client and `id`. The same steps under the same id join the first
    submission, whatever its lane and tenant; what died half-way is completed. Six round trips to
    the store (seven with guard `none` or `lookup`), one when it was submitted before; and a few
    more for the first of a process.

    Args:
        client: Whose quota it uses.
        steps: As `steps` in a line of `headgate submit calls`: 1 to 20 of `name`, `method`,
            `path`, `headers`, `body`, `guard`, `lookup`, `after_unknown`, `poll`, `parts`.
        id: What you call it: 1 to 128 characters out of A-Z a-z 0-9 . _ : @ + -
        lane: urgent, normal, bulk, or a priority from 0 to 9.
        tenant: Whose it is, where the client has tenants.
        config: The configuration's file; None = as for the commands.

    Raises:
        InputError: a step, the id or the lane is wrong, or there are other steps under this id;
            nothing was written.
        UsageError: the client has no such tenant.
        ConfigError: the configuration is wrong, has no such client, or lacks its secret.
        StoreUnfit: the store has no room left.
        StoreAway: the store does not answer; submit it again.
    """
    it, tenant = _sender(client, tenant or NO_TENANT, config)
    submission = Submission(
        client=it,
        path=Path(),
        lane=lane_of(str(lane)),
        tenant=tenant,
        options=Options(),
    )
    kind = find_kind("calls")
    require(kind, submission)
    return _accept(it, _row(it, id, steps), kind.job_params(submission))


def _sender(client: str, tenant: str, config: str | None) -> tuple[Client, str]:
    """The client, or that of a tenant with credentials of its own."""
    its = clients(config)
    tenants = its[client].settings().tenants
    if tenant in tenants and (own := tenants[tenant].client):
        return its[own], NO_TENANT
    return its[client], tenant


def _row(it: Client, row_id: str, steps: Sequence[dict[str, Any]]) -> Row:
    """The row, checked as the line of a file that it could be."""
    try:
        text = json.dumps({"id": row_id, "steps": steps}, ensure_ascii=False)
        line = text if len(text.encode()) <= MAX_LINE else None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the transaction cannot be written as JSON ({type(error).__name__}); give steps of "
            f"dicts, lists, text, numbers, true, false and null"
        ) from None
    (row,) = read_calls([(1, line)], it.settings())
    if "error" in row:
        name = f"transaction {row['id']}" if "id" in row else "the transaction"
        raise InputError(f"{name}: {row['error']}")
    return row


def _accept(it: Client, row: Row, about: dict[str, Any]) -> Transaction:
    """Its job, made or found."""
    ledger, digest = it.ledger, payload_hash([row["id"], row["steps"]])
    names = json.dumps([it.name, row["id"]]).encode()
    job = f"t-{hashlib.sha256(names).hexdigest()[:14]}"
    found = ledger.job(job)
    new = not found.get("closed")
    calls = find_kind("calls").steps.plan(row, about, it.settings())
    if not found:
        if (weak := weak_guard(calls)) and not may_be_unguarded(it):
            raise forgotten(weak, f"transaction {row['id']}")
        require_room(it.store, len(pack([row])) + TRANSACTION_BYTES)
        known: dict[str, str | int] = {
            "kind": "calls",
            "client": it.name,
            "name": row["id"],
            "about": json.dumps(about),
            "low": low_water(it),
            "joined": 0,
            "digest": digest,
        }
        found = ledger.begin(job, known)
    if found.get("digest") != digest:
        raise InputError(
            f"transaction {row['id']}: it was submitted before with other steps, as {job}; "
            f"give other steps another id"
        )
    if new:
        if ledger.accept(job, 0, [row], rejected=0, calls=sum(it.parts for it in calls)) != 1:
            raise NotNow(f"the store lost transaction {row['id']} meanwhile; submit it again")
        ledger.close(job)
    return Transaction(it.key(job, row["id"]), job, row["id"], new, it)
