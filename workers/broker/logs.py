"""A worker's log: one line an event, its moment in UTC, and nothing in it that a terminal obeys.

Names and ids of messages stand in the log, and whoever can write to the broker chooses them: with a
line end in one of them they would write lines of their own.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from celery.app.log import Logging, TaskFormatter
from celery.utils.log import ColorFormatter
from typing_extensions import override

if TYPE_CHECKING:
    from types import TracebackType

#: Control characters, and what else ends a line somewhere → how it is shown.
_SHOWN: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}
#: What stands before each line of a traceback, so that none can be taken for an event.
_INDENT: Final = "    "


class LogLines(logging.Formatter):
    """What Celery's formatters become here, and the lines of Flower."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(_SHOWN)

    @override
    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(_INDENT + line.translate(_SHOWN) for line in lines)


class _WorkerLines(LogLines, ColorFormatter):  # type: ignore[misc]  # Celery ships no types
    """Lines of the worker."""


class _TaskLines(LogLines, TaskFormatter):  # type: ignore[misc]  # Celery ships no types
    """Lines of a task, which have its name and id too."""


class WorkerLog(Logging):  # type: ignore[misc]  # Celery ships no types
    """Celery's logging, with our lines."""

    @override
    def setup_handlers(
        self,
        *given: Any,
        formatter: type[logging.Formatter] = ColorFormatter,
        **options: Any,
    ) -> logging.Logger:
        ours = _TaskLines if issubclass(formatter, TaskFormatter) else _WorkerLines
        logger: logging.Logger = super().setup_handlers(*given, formatter=ours, **options)
        return logger
