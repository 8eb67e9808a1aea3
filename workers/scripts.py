"""The Lua scripts, each put together of its parts, loaded by hash and reloaded when forgotten."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.keys import ClientKeys
    from workers.store import Store


#: A script's header names the parts that it is made of, in the order in which they need each other.
_PARTS: Final = re.compile(r"^-- Parts +(.+)$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The text of `lua/<name>.lua` with the prelude and its parts behind its first line."""
    folder = resources.files("workers").joinpath("lua")
    shebang, _, body = folder.joinpath(f"{name}.lua").read_text("utf-8").partition("\n")
    named = _PARTS.search(body)
    parts = [f"parts/{part}.lua" for part in named[1].split(", ")] if named else []
    before = (folder.joinpath(file).read_text("utf-8") for file in ("prelude.lua", *parts))
    return "\n".join((shebang, *before, body))


@cache
def digest(name: str) -> str:
    """The hash under which the store knows the script."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """The scripts of one client: `scripts("admit", key, …)` runs `lua/admit.lua`.

    Args:
        store: Where they run.
        keys: The client's names; its prefix is KEYS[1] of every script.
        clock: Microseconds since the epoch, for tests that hold the clock; None = the store's.
    """

    def __init__(self, store: Store, keys: ClientKeys, clock: Callable[[], int] | None) -> None:
        self._store = store
        self._prefix = keys.prefix
        self._clock = clock

    def __call__(self, name: str, *args: str | bytes | float) -> Any:  # noqa: ANN401 -- the script's
        """Run a script; raises `StoreAway` when the store gives no answer."""
        now_us = self._clock() if self._clock else ""
        command = ("EVALSHA", digest(name), 1, self._prefix, now_us, *args)
        try:
            return self._store.ask(*command)
        except NoScriptError:  # the store forgot it, or never knew it: nothing has run
            self._store.ask("SCRIPT", "LOAD", source(name))
            return self._store.ask(*command)
