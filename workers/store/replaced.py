"""What the scripts answer in a store that is not ours, or not as new as we know: the sentences."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

#: What is to be done when a store is not that of this installation.
REMEDY: Final = (
    'correct store.url, or restore its backup and give `headgate recover --since T --reason "…"`, '
    'or begin anew with `headgate recover --new-installation --reason "…"`'
)
#: What is to be done when a configuration leads to another store than before.
REMEDY_ELSEWHERE: Final = (
    "correct store.url or store.namespace, or begin anew there with "
    '`headgate recover --new-installation --reason "…"`'
)
_FOREIGN: Final = (
    f"the store no longer has this installation, it was emptied or replaced: nothing is sent until "
    f"it is back; stop the workers, then {REMEDY}"
)


def read_replaced(answer: str) -> str:
    """The sentence for an error that a script answered, by its first word; else ""."""
    match answer.split():
        case ["FOREIGN", *_]:  # lua/prelude.lua
            return _FOREIGN
        case ["BEHIND", newest_us]:  # lua/includes/run.lua
            return behind(int(newest_us))
    return ""


def behind(newest_us: int) -> str:
    """The sentence on a store that knows no send after this moment, though there were some."""
    moment = datetime.fromtimestamp(newest_us / 1e6, UTC).isoformat(timespec="seconds")
    return (
        f"the store is older than what was sent: it knows of nothing after {moment}, so nothing is "
        f'sent; stop the workers, and give `headgate recover --since {moment} --reason "…"`'
    )
