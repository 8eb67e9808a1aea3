"""From a file to checked pages; nothing is accepted yet.

The kind picks the reader. A reader that meets another file, such as the contacts of a campaign, is
handed `check` for it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from functools import cache, lru_cache, partial
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.rows import find_tenant_fault
from orchestration.intake.seen import First, Repeats
from orchestration.intake.spool import Packer
from orchestration.intake.submission import Checked
from workers.answer.guards import Guard
from workers.errors import HeadgateError, InputError, UsageError
from workers.governor.flows import NO_TENANT
from workers.ledger.identity import payload_hash
from workers.settings.limits import matching
from workers.store.connection import fsync_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orchestration.intake.kind import Kind
    from orchestration.intake.readers.source import FileRows
    from orchestration.intake.spool import Member
    from orchestration.intake.submission import Options, Submission
    from tasks.kind import StepPlan
    from workers.clients import Client
    from workers.ledger.ledger import Row

#: Guards that rest on what the store remembers of a send.
WEAK_GUARDS: Final = {Guard.NONE: "none", Guard.LOOKUP: "lookup"}
#: Reasons of rejected rows that are kept to be shown.
MOST_REASONS: Final = 20
#: Fields of rows that make no transaction: rejected ones, and repeats of an earlier row.
_NO_TRANSACTION: Final = frozenset({"error", "joins"})


@contextmanager
def check(kind: Kind[Any], submission: Submission[Options]) -> Iterator[Checked]:
    """Read the whole file, check each row, and lend the result.

    Raises:
        ConfigError: a secret of the client cannot be found.
        UsageError: see `require`.
        InputError: the file as a whole cannot be accepted; a bad row is no error, it is rejected.
        HeadgateError: there is no room for temporary files.
    """
    require(kind, submission)
    file_rows = kind.read(submission, check)
    checked = Checked(file_rows.source.name, kind.job_params(submission))
    with closing(checked.spool):
        try:
            _read(kind, submission, file_rows, checked)
        except (OSError, sqlite3.Error) as error:  # those of the file itself are input errors
            raise HeadgateError(
                f"temporary files cannot be written in {gettempdir()} ({error}); free some space "
                f"or set TMPDIR"
            ) from None
        if not checked.rows:
            raise InputError(f"{checked.file} has no rows; nothing can be submitted")
        checked.job = _name_job(kind, submission, file_rows.source.digest)
        checked.loads = kind.sum_up_loads(submission, checked)
        yield checked


def require(kind: Kind[Any], submission: Submission[Options]) -> None:
    """See to it that the client can send this kind of rows for the tenant.

    Raises:
        ConfigError: a secret of the client cannot be found.
        UsageError: the tenant is none of the client, the kind is not for the client's platform, or
            the kind refuses its options.
    """
    settings = submission.client.settings()
    settings.secrets()
    settings.proxy_password()
    if platform := kind.other_platform(settings.provider):
        raise UsageError(
            f"client {settings.name} is one of {platform}, for which `submit {kind.name}` "
            f"is not built yet; its requests go with `submit calls`"
        )
    tenant = submission.tenant
    if tenant != NO_TENANT and (fault := find_tenant_fault(settings, tenant)):
        raise UsageError(f"tenant {tenant!r}: {fault}; choose another one or configure it")
    kind.check_options(submission.options)


def _name_job(kind: Kind[Any], submission: Submission[Options], digest: str) -> str:
    """The name of the job: two submissions with the same one are the same work.

    Lane, tenant and batch size do not count: however it is sent, the content has the same effects.
    Nor does the start of campaigns: who starts them later must not make them twice.
    """
    scope = kind.scope(submission.options)
    names = json.dumps([submission.client.name, kind.name, *scope, digest]).encode()
    return f"c-{hashlib.sha256(names).hexdigest()[:12]}"


def _read(
    kind: Kind[Any], submission: Submission[Options], file_rows: FileRows, checked: Checked
) -> None:
    """Sort each row: rejected, a repeat that joins an earlier row, or one that is packed."""
    pages = _PageWriter(submission.client, kind, checked)
    job_params = checked.job_params
    packer = Packer(
        kind.packing(submission.options), lambda row: kind.steps.size(row, job_params), pages.add
    )
    with closing(Repeats()) as repeats:
        for given in file_rows.rows:
            row = given if "error" in given else _compare(given, repeats, packer.place(given))
            checked.rows += 1
            if "error" in row:
                checked.rejected += 1
                if len(checked.reasons) < MOST_REASONS:
                    checked.reasons.append((row["line"], row["error"]))
            elif "joins" in row:
                checked.joined += 1
            else:
                packer.add(row)
                continue
            packer.pass_by(row)
    packer.finish()
    checked.spool.finish()
    checked.calls = pages.calls
    checked.per_limit = pages.per_limit()


class _PageWriter:
    """Writes packed rows to the pages, and counts the calls that each limit will be charged."""

    def __init__(self, client: Client, kind: Kind[Any], checked: Checked) -> None:
        self._steps, self._settings = kind.steps, client.settings()
        self._takes_weak_guards = cache(partial(takes_weak_guards, client))
        self._checked = checked
        self._charged: Counter[tuple[str, ...]] = Counter()
        self._limits_of = lru_cache(maxsize=256)(self._find_limits)
        self.calls = 0

    def add(self, entries: list[Row]) -> None:
        """Write what stands on one page together."""
        calls = sum(self._count(entry) for entry in entries if not entry.keys() & _NO_TRANSACTION)
        self.calls += calls
        self._checked.spool.add(entries, calls)

    def _count(self, entry: Row) -> int:
        """The calls of one transaction, noted for the limits of their routes."""
        steps = self._steps.plan(entry, self._checked.job_params, self._settings)
        place = f"{self._checked.file}, line {entry['line']}"
        refuse_weak_guards(steps, place, self._takes_weak_guards)
        calls = 0
        for step in steps:
            if not step.local:  # a local step costs no quota
                calls += step.parts
                self._charged[self._limits_of(step.route)] += step.parts
        return calls

    def per_limit(self) -> Counter[str]:
        """Calls that each limit is charged."""
        counts = Counter[str]()
        for names, count in self._charged.items():
            counts.update(dict.fromkeys(names, count))
        return counts

    def _find_limits(self, route: str) -> tuple[str, ...]:
        return tuple(limit.name for limit in matching(self._settings.limits, route))


def takes_weak_guards(client: Client) -> bool:
    """Whether the store remembers every send, or its operator accepts that it may not."""
    settings = client.fleet.store
    return settings.accept_everysec or fsync_of(client.store, settings) == "always"


def refuse_weak_guards(
    steps: Iterable[StepPlan], place: str, are_taken: Callable[[], bool]
) -> None:
    """Raise `InputError` when a guard rests on what the store remembers of a send, and it may not.

    Args:
        steps: What is to be sent.
        place: Where it stands, for the error.
        are_taken: `takes_weak_guards` of the client; asked where there is such a guard.
    """
    weak = {step.guard for step in steps} & WEAK_GUARDS.keys()
    if weak and not are_taken():
        raise InputError(
            f"{place}: guard {WEAK_GUARDS[min(weak)]}, while the store may lose its last second "
            f"(appendfsync everysec); set appendfsync always, or store.accept_everysec = true"
        )


def _compare(row: Row, repeats: Repeats, place: Member) -> Row:
    """The row, or what a row comes to that repeats the id of an earlier one."""
    line, row_id = row["line"], row["id"]
    payload = payload_hash({name: row[name] for name in row if name not in {"line", "id"}})
    first = repeats.first(row_id, First(line, payload, *place))
    if first.line == line:
        return row
    if first.payload == payload:
        return {"line": line, "id": row_id, "joins": first.line, "of": first.of, "at": first.at}
    reason = f"line {line} has the id of line {first.line} and another payload"
    return {"line": line, "id": row_id, "error": reason}
