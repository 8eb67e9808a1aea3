"""The Lua scripts, each with the prelude in front, loaded by hash and reloaded when forgotten."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.keys import ClientKeys
    from workers.store import Store


@cache
def source(name: str) -> str:
    """The text of `lua/<name>.lua` with the prelude behind its first line."""
    folder = resources.files("workers").joinpath("lua")
    shebang, _, body = folder.joinpath(f"{name}.lua").read_text("utf-8").partition("\n")
    return f"{shebang}\n{folder.joinpath('prelude.lua').read_text('utf-8')}\n{body}"


class Scripts:
    """The scripts of one client: `scripts("admit", key, …)` runs `lua/admit.lua`.

    Args:
        store: Where they run.
        keys: The client's names; its prefix is KEYS[1] of every script.
        clock: Microseconds since the epoch, for tests that hold the clock; None = the store's.
    """

    def __init__(self, store: Store, keys: ClientKeys, clock: Callable[[], int] | None) -> None:
        self._store = store
        self._keys = [keys.prefix]
        self._clock = clock
        self._loaded: dict[str, Any] = {}

    def __call__(self, name: str, *args: str | bytes | float) -> Any:  # noqa: ANN401 -- the script's
        """Run a script; raises `StoreAway` when the store gives no answer."""
        script = self._loaded.get(name)
        if script is None:
            script = self._loaded[name] = self._store.register_script(source(name))
        return script(keys=self._keys, args=(self._clock() if self._clock else "", *args))
