"""`submit_transaction`: one business operation from Python, on the same path as a row of a file.

    submitted = submit_transaction("acme", steps, id="order-4711")
    submitted.wait(timeout_s=60).state

It is a job of one row. So the ledger brings it to its end, whatever dies meanwhile, and
`headgate jobs`, `watch` and `report` show it.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.accept import TRANSACTION_BYTES, low_water, require_room
from orchestration.intake.check import refuse_weak_guards, require, takes_weak_guards
from orchestration.intake.readers.calls import read_calls
from orchestration.intake.readers.source import MAX_LINE
from orchestration.intake.submission import Options, Submission
from orchestration.kinds.registry import find_kind
from orchestration.views.report import status_of
from workers.clients import clients
from workers.errors import HeadgateError, InputError, NotNow
from workers.governor.flows import NO_TENANT, lane_of
from workers.ledger.identity import payload_hash
from workers.ledger.job import OF_ONE_TRANSACTION, Job
from workers.ledger.ledger import PageCounts
from workers.ledger.packing import pack
from workers.ledger.transaction import FINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.views.report import TransactionStatus
    from tasks.kind import StepPlan
    from workers.clients import Client
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row

#: Seconds between two looks of `wait`: the first pause, doubled up to the second.
LOOK_S: Final = (0.05, 1.0)


@dataclass(frozen=True, slots=True)
class SubmittedTransaction:
    """A transaction that was submitted; another process that submits it again gets an equal one."""

    key: str  #: its idempotency key
    job: str  #: name of its job, for `headgate watch` and `report`
    id: str
    new: bool  #: False: it was submitted before, and nothing was added
    _client: Client = field(repr=False, compare=False)

    def state(self) -> TransactionStatus:
        """What has become of it, in one round trip to the store (two before it is opened).

        The `state` of the status is `waiting`, `in_flight` or a final word: `succeeded`, `failed`,
        `unknown`, `cancelled`, `expired`. `status`, `provider_id` and `error` are those of the
        newest answer.

        Raises:
            StoreAway: the store gives no answer.
            StoreReplaced: it is not the store of this installation.
            HeadgateError: the store has lost the transaction.
        """
        ledger = self._client.ledger
        transaction = ledger.transaction(self.key)
        if not transaction and not ledger.job(self.job):
            self._client.installation.check()  # in another store it is not lost: do not submit it
            raise HeadgateError(f"the store has lost transaction {self.id}; submit it again")
        return status_of(self._client, {"line": 1, "id": self.id}, self.key, transaction)

    def wait(self, timeout_s: float) -> TransactionStatus:
        """Look until it has ended, or for `timeout_s` seconds; returns the last status.

        A wait that was too short is no error: the status says whether the transaction has ended.
        """
        ends_s = time.monotonic() + timeout_s
        pause_s, most_s = LOOK_S
        while True:
            status = self.state()
            left_s = ends_s - time.monotonic()
            if status.state in FINAL or left_s <= 0:
                return status
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
) -> SubmittedTransaction:
    """Submit one transaction; whoever submits it again gets the same one.

    The key is derived from client and `id`. The same steps under the same id join the first
    submission, whatever its lane and tenant; a submission that died half-way is completed.

    Cost: six round trips to the store (seven with guard `none` or `lookup`), one when it was
    submitted before; and a few more for the first submission of a process.

    Args:
        client: The client whose quota it uses.
        steps: As `steps` in a line of `headgate submit calls`: 1 to 20 of `name`, `method`,
            `path`, `headers`, `body`, `guard`, `lookup`, `after_unknown`, `poll`, `parts`.
        id: Your name for it: 1 to 128 characters out of A-Z a-z 0-9 . _ : @ + -
        lane: urgent, normal, bulk, or a priority from 0 to 9.
        tenant: The tenant that it belongs to, where the client has tenants.
        config: The configuration's file; None = as for the commands.

    Raises:
        InputError: a step, the id or the lane is wrong, or there are other steps under this id;
            nothing was written.
        UsageError: the client has no such tenant.
        ConfigError: the configuration is wrong, has no such client, or lacks its secret.
        StoreUnfit: the store has no room left.
        StoreAway: the store does not answer; submit it again.
    """
    sender, tenant = clients(config).sender(client, tenant or NO_TENANT)
    submission = Submission(
        client=sender, path=Path(), lane=lane_of(str(lane)), tenant=tenant, options=Options()
    )
    kind = find_kind("calls")
    require(kind, submission)
    return _accept(sender, _check_row(sender, id, steps), kind.job_params(submission))


def _check_row(client: Client, row_id: str, steps: Sequence[dict[str, Any]]) -> Row:
    """The row, checked as the line of a file that it could be."""
    try:
        text = json.dumps({"id": row_id, "steps": steps}, ensure_ascii=False)
        line = text if len(text.encode()) <= MAX_LINE else None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the transaction cannot be written as JSON ({type(error).__name__}); give steps of "
            f"dicts, lists, text, numbers, true, false and null"
        ) from None
    (row,) = read_calls([(1, line)], client.settings())
    if "error" in row:
        name = f"transaction {row['id']}" if "id" in row else "the transaction"
        raise InputError(f"{name}: {row['error']}")
    return row


def _accept(client: Client, row: Row, params: JobParams) -> SubmittedTransaction:
    """Create the job of the row, or go on with the one that is there."""
    ledger, digest = client.ledger, payload_hash([row["id"], row["steps"]])
    names = json.dumps([client.name, row["id"]]).encode()
    name = f"{OF_ONE_TRANSACTION}{hashlib.sha256(names).hexdigest()[:14]}"
    job = ledger.job(name)
    new = job is None or not job.started
    plan = find_kind("calls").steps.plan(row, params, client.settings())
    if job is None:
        _require_acceptable(client, row, plan)
        client.require_bound()
        job = ledger.begin(
            Job(
                name=name,
                params=params,
                client=client.name,
                source=row["id"],
                low_water=low_water(client),
                digest=digest,
            )
        )
    if job.digest != digest:
        raise InputError(
            f"transaction {row['id']}: it was submitted before with other steps, as {name}; "
            f"give other steps another id"
        )
    if new:
        counts = PageCounts(calls=sum(step.parts for step in plan))
        if ledger.accept(name, 0, [row], counts) != 1:
            raise NotNow(f"the store lost transaction {row['id']} meanwhile; submit it again")
        ledger.start(name)
    return SubmittedTransaction(client.key(name, row["id"]), name, row["id"], new, client)


def _require_acceptable(client: Client, row: Row, plan: Sequence[StepPlan]) -> None:
    refuse_weak_guards(plan, f"transaction {row['id']}", partial(takes_weak_guards, client))
    require_room(client.store, len(pack([row])) + TRANSACTION_BYTES)
