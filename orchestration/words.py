"""How texts for people say a number of things."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """The number with its thing in the singular or the plural.

    Example:
        >>> counted(1, "row"), counted(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
