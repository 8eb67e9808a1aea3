"""Many commands, or one script for many clients, in few round trips.

A command that fails fails alone: its answer is the error, and the others have theirs.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import RedisError, ResponseError

from workers.store.scripts import library, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

    Command = Sequence[str | bytes | float]
    #: Sets the marks of clients where they are missing, see `workers.ledger.installation`.
    FindMarks = Callable[[Sequence[ClientKeys]], Sequence[str]]

#: Commands of one round trip.
AT_ONCE: Final = 500

_Value = TypeVar("_Value")


def ask_many(store: Store, commands: Iterable[Command]) -> list[Any]:
    """What the store answers to each command, in chunks of `AT_ONCE`.

    Raises:
        StoreAway: it gave no answer at all.
    """
    replies = _ask(store, commands)
    return [store.fail(one) if isinstance(one, RedisError) else one for one in replies]


def _ask(store: Store, commands: Iterable[Command]) -> list[Any]:
    replies: list[Any] = []
    for some in chunks(commands, AT_ONCE):
        pipe = store.pipeline(transaction=False)
        for command in some:
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        replies += pipe.execute(raise_on_error=False)
    return replies


def chunks(values: Iterable[_Value], size: int) -> Iterator[list[_Value]]:
    """The values in lists of at most so many."""
    left = iter(values)
    while some := list(islice(left, size)):
        yield some


class ManyScripts:
    """The scripts of many clients: `scripts("bind", {keys: args, …})` runs `lua/bind.lua` for each.

    Args:
        store: Where they run.
        find_marks: Gives the mark of each client, which is KEYS[2] of every script.
    """

    def __init__(self, store: Store, find_marks: FindMarks) -> None:
        self._store = store
        self._find_marks = find_marks

    def __call__(self, name: str, calls: Mapping[ClientKeys, Command]) -> dict[ClientKeys, Any]:
        """Run a script for each of these clients; returns its answers, and errors among them.

        Raises:
            StoreAway: the store gave no answer at all; nobody knows which have run.
            StoreReplaced: it is not the store of this installation; nothing has run.
        """
        if not calls:
            return {}
        own_library, text = library()
        marks = self._find_marks([*calls])
        commands = {
            keys: ("FCALL", f"{own_library}_{name}", 2, keys.prefix, mark, "", *args)
            for (keys, args), mark in zip(calls.items(), marks, strict=True)
        }
        replies = dict(zip(commands, _ask(self._store, commands.values()), strict=True))
        # The store is new, or was told to forget the library: nothing of these has run.
        if unknown := [keys for keys, reply in replies.items() if _is_unknown(reply)]:
            load(self._store, own_library, text)
            again = _ask(self._store, (commands[keys] for keys in unknown))
            replies |= dict(zip(unknown, again, strict=True))
        return {
            keys: self._store.fail(reply) if isinstance(reply, RedisError) else reply
            for keys, reply in replies.items()
        }


def _is_unknown(reply: object) -> bool:
    return isinstance(reply, ResponseError) and str(reply) == "Function not found"
