"""What one step says to a provider, and how its answer is read.

- `kind`: the contract, `StepKind`: which steps a row becomes (`plan`), what each of them sends
  (`request`), how its answer is read. A step that makes no call is done by the kind itself.
- `rest`, `genesys`: the steps of each kind that is built in, by platform. Those of NICE CXone would
  stand in `nice` beside them.
- `steps`: the path that every step takes, whatever its kind: the Celery tasks.
- `governed`: a base for tasks of other people's applications; to import it touches no application,
  neither ours nor theirs.

How rows come out of a file, and which kinds there are, is never said here: that is
`orchestration.kinds`.
"""

from tasks.kind import (
    ALONE,
    CannotSay,
    LocalResult,
    Packing,
    Polled,
    StepKind,
    StepPlan,
    StepResult,
)

__all__ = [
    "ALONE",
    "CannotSay",
    "LocalResult",
    "Packing",
    "Polled",
    "StepKind",
    "StepPlan",
    "StepResult",
]
