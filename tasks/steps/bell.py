"""What a bell says: the names of a client, a transaction and its step.

Whoever is on the broker can send a message, so its arguments may be anything. What they name is for
the ledger to compare: `lua/admit.lua` knows whether the step is out, and whose it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Longest name of a client, and longest key; the largest number of a step.
LONGEST_NAME: Final = 64
LARGEST_STEP: Final = 10_000


def read_bell(names: Sequence[object], more: Mapping[str, object]) -> tuple[str, str, int] | None:
    """Client, key and step from a task's arguments; None when they cannot be those of a bell."""
    match names:
        case [str(client), str(key), int(step)] if not more and type(step) is int:
            if _is_name(client) and _is_name(key) and 0 < step <= LARGEST_STEP:
                return client, key, step
    return None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isascii()
