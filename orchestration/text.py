"""How texts for people say things."""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def counted(number: int, thing: str) -> str:
    """The number with its thing in the singular or the plural.

    Example:
        >>> counted(1, "row"), counted(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def printable(text: str) -> str:
    r"""The text on one line, with nothing in it that a terminal obeys.

    Example:
        >>> printable("one" + chr(10) + "two")
        'one\\x0atwo'
    """
    return _CONTROL.sub(lambda it: f"\\x{ord(it[0]):02x}", text)
