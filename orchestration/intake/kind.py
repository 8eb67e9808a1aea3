"""The contract of a kind: everything that Headgate must know of what a job's rows are.

Intake works with any `Kind`; which kinds there are stands above it, in `orchestration.kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from orchestration.intake.submission import Checked, Loads, Options, Submission
from tasks.kind import other_platform
from workers.ledger.job import JobParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestration.intake.readers.source import FileRows
    from tasks.kind import Packing, StepKind

OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`headgate submit NAME FILE`. Kinds that share a command are told apart by its option `--as`.

    The options of the command are those that all kinds share, `--as`, and the fields of the kind's
    `options`.
    """

    name: str
    #: What it does with FILE, with an example, as click shows it (a line of `\b` keeps the lines
    #: below it as they are).
    help: str
    choice: str = ""  #: of several kinds: what `--as` chooses


class Kind(ABC, Generic[OptionsT]):
    """What a job's rows are: how a file of them is read, and what its steps are.

    The attributes are set by each class; the methods have defaults but for `read`.
    """

    name: ClassVar[str]  #: by which jobs are stored and shown
    command: ClassVar[Command]  #: how it is submitted
    steps: ClassVar[StepKind]  #: what its steps send, and how the answers are read
    options: type[OptionsT]  #: what its user may say beside what all kinds share
    #: Object of a row → field → its meaning: every field that a row may have.
    fields: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    platform: ClassVar[
        str
    ]  #: the only one that it speaks to, of `tasks.kind.PLATFORMS`, or `ANY_PLATFORM`
    #: Of rows that are campaigns, with a file of contacts each: the kind of these contacts.
    #: `headgate campaign` follows and stops what was made.
    contacts: ClassVar[Kind[Any] | None] = None

    @abstractmethod
    def read(self, submission: Submission[OptionsT], check: Check) -> FileRows:
        """The file of a submission with its rows, good and rejected.

        A good row is `{"line", "id", …}` with what the steps need, JSON values all; `line` counts
        from 1 and grows. A rejected one comes of `orchestration.intake.readers.rows.reject`.

        Args:
            submission: What was asked for.
            check: Reads another file that a row names: its kind, and a submission of its own.

        Raises:
            InputError: the file as a whole cannot be read; while the rows are read, too.
        """

    def check_options(self, options: OptionsT) -> None:
        """Raise `UsageError` for options that cannot be."""
        del options

    def scope(self, options: OptionsT) -> tuple[str, ...]:
        """Within what rows are known apart, beside client and kind; () = nothing else.

        Files of the same content are the same job in the same scope, and different jobs in others.
        """
        del options
        return ()

    def own_params(self, options: OptionsT) -> Mapping[str, Any]:
        """What the steps must know of the options: attributes of `JobParams` with their values.

        A kind of another package gives `own`: an object of JSON values that are its own.
        """
        del options
        return {}

    def packing(self, options: OptionsT) -> Packing:
        """How many rows share a call at most."""
        del options
        return self.steps.packing

    def sum_up_loads(self, submission: Submission[OptionsT], checked: Checked) -> Loads:
        """What the further files come to that the rows of a checked file name; mostly nothing."""
        del submission, checked
        return Loads()

    def store_loads(self, submission: Submission[OptionsT], checked: Checked, job: str) -> None:
        """Store what the further files hold: `job` has all its pages and is not started yet.

        Raises:
            InputError: such a file changed since it was checked.
            NotNow: the store is away; the same submission goes on when it is back.
            StoreUnfit: the store has no room left.
        """

    def job_params(self, submission: Submission[OptionsT]) -> JobParams:
        """What the job's steps need to know beside their rows."""
        params = JobParams(kind=self.name, lane=submission.lane, tenant=submission.tenant)
        return replace(params, **self.own_params(submission.options))

    def other_platform(self, provider: str) -> str:
        """The platform of this provider, for people, when the kind is for another one; else ""."""
        return other_platform(self.platform, provider)


#: Reads a whole file and lends what it came to: `orchestration.intake.check.check`.
Check = Callable[[Kind[Any], Submission[Options]], AbstractContextManager[Checked]]
