"""The record of every request, and what a reader learns from it.

`entry` is one request, `journal` holds the entries in memory and on disk, `report` counts them, and
`windows` measures what each limit had to bear. Reports read entries; the journal knows no report,
and nothing here decides anything about a call.
"""

from orchestration.sandbox.journal.entry import JournalEntry
from orchestration.sandbox.journal.journal import Journal
from orchestration.sandbox.journal.report import build_report
from orchestration.sandbox.journal.windows import measure_windows

__all__ = ["Journal", "JournalEntry", "build_report", "measure_windows"]
