"""One bell answered: the path that every step takes, whatever its kind.

- `call`: the main path, from the bell to the next bell.
- `granted`: what a granted step is made of.
- `reading`: from an answer to a verdict; it changes nothing.
- `local`: the same path for a step that makes no call.
- `detours`: what is done instead of a call that may not leave as it is.

Nothing here knows what a kind sends.
"""

from tasks.steps.call import FlowerNote, Retrying, Step, TransactionFailed, step_of
from tasks.steps.local import LocalStep, local_step_of

__all__ = [
    "FlowerNote",
    "LocalStep",
    "Retrying",
    "Step",
    "TransactionFailed",
    "local_step_of",
    "step_of",
]
