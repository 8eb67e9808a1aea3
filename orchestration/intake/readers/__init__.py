"""Readers: what a submitted file holds becomes rows, good or rejected, one at a time.

- `source`: the file itself, as numbered lines of text, and `FileRows`, which every reader gives.
- `rows`: what rows of all kinds share: ids, tenants, lanes, and how a bad row is rejected.
- `calls`, `contacts`, `campaigns`, `media`: one reader for each form of file.
- `strict_json`: how a JSON value of a line is read, and what is refused in it.
- `steps`: the steps of a row of calls: request, look-up, poll, parts.

A reader knows neither the store nor the ledger, and never decides what is accepted: it yields rows.
Each tells in a table, `…_FIELDS`, which fields a row may have, with one sentence for each field.

A contact list of NICE CXone would be a reader of its own here where its file has another form than
the CSV of `contacts`; the calls go to `tasks.nice`, and a `Kind` in `orchestration.kinds` joins the
two.
"""

from orchestration.intake.readers.source import FileRows, Source

__all__ = ["FileRows", "Source"]
