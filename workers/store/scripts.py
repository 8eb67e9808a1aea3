"""The Lua scripts: one library of functions, loaded into a store that does not know it.

What a script needs besides itself, the prelude and its includes, is made when the library is
loaded, and not at each call.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from workers.errors import FunctionUnknown, StoreAway

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.resources.abc import Traversable

    from workers.store.connection import Store
    from workers.store.keys import ClientKeys


#: A script's header names its includes, on one line or more, in the order in which they need each
#: other.
_INCLUDES: Final = re.compile(r"^-- Includes +(.+)$", re.MULTILINE)

#: What an include declares at its outermost level: a function, or variables and their values.
_FUNCTION_NAME: Final = re.compile(r"^local function (\w+)", re.MULTILINE)
_VARIABLES: Final = re.compile(r"^local (\w+(?:, \w+)*)( =.*)?$", re.MULTILINE)
#: What an include's header says that it gives.
_GIVES: Final = re.compile(r"^-- Gives +(.+(?:\n--  +.+)*)$", re.MULTILINE)

#: An include in its script. Lua allows a function 200 variables, and `ring` has more than that.
_INCLUDE: Final = """
local {gives}
do
{text}
end
"""

#: One script of the library. Its includes are its own: it shares their variables with no other one.
_FUNCTION: Final = """
do
{includes}
redis.register_function{{function_name = LIBRARY .. "_{name}", flags = {{{flags}}},
callback = function(KEYS, ARGV)
if is_foreign(KEYS[2]) then return redis.error_reply(FOREIGN) end
{starts}
{script}
end}}
end
"""


def includes_of(script: str) -> list[str]:
    """The includes that a script names in its head; what stands in brackets is for readers."""
    names = ", ".join(_INCLUDES.findall(script))
    return re.sub(r" *\([^)]*\)", "", names).split(", ") if names else []


def gives_of(include: str) -> list[str]:
    """The names that an include gives to those who come after it."""
    given = _GIVES.search(include)
    return re.findall(r"\w+", given[1].replace("\n--", "")) if given else []


def in_own_scope(name: str, include: str) -> str:
    """An include of which nothing is seen outside but what it gives, and its start."""
    start = f"start_{name}"
    gives = [*gives_of(include), *([start] if f"local function {start}(" in include else [])]

    def declare_function(match: re.Match[str]) -> str:
        return f"function {match[1]}" if match[1] in gives else match[0]

    def declare_variables(match: re.Match[str]) -> str:
        names = match[1].split(", ")
        if not {*names} & {*gives}:
            return match[0]
        if not {*names} <= {*gives}:
            msg = f"includes/{name}.lua gives some of {match[1]}: it must declare them apart"
            raise ValueError(msg)
        return f"{match[1]}{match[2]}" if match[2] else ""

    text = _FUNCTION_NAME.sub(declare_function, include)
    text = _VARIABLES.sub(declare_variables, text)
    return _INCLUDE.format(gives=", ".join(gives), text=text)


def _function(name: str, folder: Traversable) -> str:
    shebang, _, script = folder.joinpath(f"{name}.lua").read_text("utf-8").partition("\n")
    includes = {
        include: folder.joinpath("includes", f"{include}.lua").read_text("utf-8")
        for include in includes_of(script)
    }
    starts = [
        f"start_{include}()"
        for include, text in includes.items()
        if f"function start_{include}(" in text
    ]
    return _FUNCTION.format(
        name=name,
        includes="\n".join(in_own_scope(*include) for include in includes.items()),
        flags=", ".join(f'"{flag}"' for flag in re.findall(r"flags=(\S+)", shebang)),
        starts="\n".join(["start_prelude(KEYS, ARGV)", *starts]),
        script=script,
    )


def put_together(folder: Traversable) -> tuple[str, str]:
    """The name of a folder's library and its text: the prelude, and each script after its includes.

    The name holds a digest of the text, and the names of the functions that of their library: of
    several releases at one store each runs its own scripts.
    """
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".lua"))
    text = folder.joinpath("prelude.lua").read_text("utf-8")
    for file in files:
        if file != "prelude.lua":
            text += _function(file.removesuffix(".lua"), folder)
    name = f"headgate_{sha256(text.encode()).hexdigest()[:16]}"
    return name, f'#!lua name={name}\nlocal LIBRARY = "{name}"\n{text}'


@cache
def library() -> tuple[str, str]:
    """The name and the text of this release's library."""
    return put_together(resources.files("workers").joinpath("lua"))


def load(store: Store, name: str, text: str) -> None:
    """Load a library where the store has not got it.

    All at once, for a store without memory loads nothing: what admitted a call can settle it.
    Several may load it at the same time: the first one does. Its equal must not replace it, which
    would forget what the first calls have kept.

    Raises:
        StoreAway: the store did not answer, or this user may load nothing.
    """
    try:
        store.ask("FUNCTION", "LOAD", text)
    except StoreAway as error:
        if "NoPermission" in str(error):
            raise StoreAway(
                f"the store has not got the functions of this release ({name}), and this user may "
                f"not load them: give `headgate deploy` as a user who may"
            ) from None
        if "already exists" not in str(error):
            raise


class Scripts:
    """The scripts of one client: `scripts("admit", key, …)` runs `lua/admit.lua`.

    Args:
        store: Where they run.
        keys: The client's names; its prefix is KEYS[1] of every script, its mark KEYS[2].
        clock: Microseconds since the epoch, for tests that hold the clock; None = the store's.
    """

    def __init__(self, store: Store, keys: ClientKeys, clock: Callable[[], int] | None) -> None:
        self._store = store
        self._keys = keys
        self._names: tuple[int | str, ...] = ()  # how many KEYS there are, and they
        self._clock = clock
        self._library, self._text = library()

    def __call__(self, name: str, *args: str | bytes | float) -> Any:  # noqa: ANN401 -- the script's
        """Run a script.

        Raises:
            StoreAway: the store gives no answer.
            StoreReplaced: it is not the store of this installation; nothing has run.
        """
        now_us = self._clock() if self._clock else ""
        names = self._names or self._find_names()
        command = ("FCALL", f"{self._library}_{name}", *names, now_us, *args)
        try:
            return self._store.ask(*command)
        except FunctionUnknown:  # the store is new, or was told to forget it: nothing has run
            load(self._store, self._library, self._text)
            return self._store.ask(*command)

    def _find_names(self) -> tuple[int | str, ...]:
        keys = self._keys
        names = (keys.prefix, keys.find_mark(keys)) if keys.find_mark else (keys.prefix,)
        self._names = (len(names), *names)
        return self._names
