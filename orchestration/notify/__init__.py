"""Tells of events by a command or a URL: once for the whole fleet, and never in the way of work.

- `events`: which events there are, and the document that tells of one.
- `conditions`: what is so just now of clients and workers, such as a hold.
- `watch`: one look at all of it; what begins, lasts or ends becomes a notice.
- `outbox`: the notices in the store, and who delivers one; a process that dies loses none.
- `delivery`: one try to deliver a notice. `notifier`: the thread that looks and delivers.

No document holds what a row, a provider or an operator says: only names, counts and moments.
"""

from __future__ import annotations

from orchestration.notify.events import EventType, Notice
from orchestration.notify.notifier import Notifier

__all__ = ["EventType", "Notice", "Notifier"]
