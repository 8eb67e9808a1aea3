"""Kinds: what a job's rows can be. A kind is one object that says all about them.

- `Kind` is the contract: name, command and options of `headgate submit`, reader, steps. It is
  defined in intake, which works with any kind.
- `registry`: the list of all kinds: those built in, and those that other packages bring;
  `registered` gives their tasks to the Celery application.
- `rest`, `genesys`: the kinds that are built in, by platform. Those of NICE CXone would stand in
  `nice` beside them, their calls in `tasks.nice`.

Command line, checks and workers take what they need from the list; none of them compares a name.
No kind sends or stores anything itself: its `steps` (a `tasks.kind.StepKind`) say what is sent.

A package of yours adds a kind by an entry point of the group `headgate.kinds`, which names a `Kind`
object. It is then known to every command and worker in whose environment the package is installed.
"""

from orchestration.intake.kind import Command, Kind
from orchestration.kinds.registry import all_kinds, find_kind, register
from tasks.kind import ANY_PLATFORM

__all__ = ["ANY_PLATFORM", "Command", "Kind", "all_kinds", "find_kind", "register"]
