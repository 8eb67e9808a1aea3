"""Intake: a file becomes a job, as a whole or not at all.

The file is read once, from its first byte to its last, and checked into a spool (`check`). Only
then are its pages accepted (`accept`), and only when the last one is there may work on it begin. A
submission that dies on the way has sent nothing; the same command goes on at the job's cursor.
Memory does not grow with the file: rows, ids and pages wait on disk.
"""

from __future__ import annotations

from orchestration.intake.accept import Accepted, accept, find
from orchestration.intake.check import Checked, check
from orchestration.intake.submission import Submission

__all__ = ["Accepted", "Checked", "Submission", "accept", "check", "find"]
