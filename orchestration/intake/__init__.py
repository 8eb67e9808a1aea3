"""Intake: a file becomes a job, as a whole or not at all.

- `submission`: what somebody asks for, and what a file came to; data only.
- `kind`: the contract of a kind, which says how its files are read; `readers` are what they use.
- `check`: picks the reader of the kind and checks every row into a `spool`.
- `accept`: stores the pages as a job, on from those that it has; `campaign_contacts` does so for
  the contacts that come with campaigns.
- `seen`: which row came first under an id.

The file is read once, from its first byte to its last. Only then are its pages accepted, and only
when the last one is stored may work on it begin. A submission that dies on the way has sent
nothing; the same command goes on. Memory does not grow with the file: rows, ids
and pages wait on disk. Nothing here sends, rings or opens a page, and nothing compares the name of
a kind: what differs between kinds is a property of `Kind`, and which kinds there are is told in
`orchestration.kinds`.
"""

from orchestration.intake.accept import Accepted, accept, find
from orchestration.intake.check import check
from orchestration.intake.submission import Checked, Options, Submission, option

__all__ = ["Accepted", "Checked", "Options", "Submission", "accept", "check", "find", "option"]
