"""What a process keeps so as not to read it again, bounded in bytes. Pure but for its lock."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

#: What one value of a JSON text takes in memory at most, beside its characters: an empty object or
#: list, or a member with its place in the object.
NODE_BYTES: Final = 128
#: The characters with which a value or member of a JSON text begins; in strings they count too.
_STARTS: Final = b"{[,:"
#: What one character takes where any of a text is outside ASCII.
_WIDEST: Final = 4

_Value = TypeVar("_Value")


class ByteCache(Generic[_Value]):
    """The values that were used last, together no heavier than `most` bytes.

    Args:
        most: Bytes of all values; a value that is heavier alone is not kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0  #: bytes of what is kept
        self._values: OrderedDict[Hashable, tuple[_Value, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: Hashable) -> _Value | None:
        """The value of this name; None when it is not kept."""
        with self._lock:
            kept = self._values.get(name)
            if kept is None:
                return None
            self._values.move_to_end(name)
            return kept[0]

    def put(self, name: Hashable, value: _Value, size: int) -> None:
        """Keep a value of so many bytes, and forget those that were not used for longest."""
        with self._lock:
            if known := self._values.pop(name, None):
                self.size -= known[1]
            if size > self.most:
                return
            self._values[name] = value, size
            self.size += size
            while self.size > self.most:
                _, (_, freed) = self._values.popitem(last=False)
                self.size -= freed

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()
            self.size = 0


def weigh(text: bytes) -> int:
    """Bytes that the values of a JSON text take at most, once it is read.

    A text of `{},{},{}` takes over twenty times its length, one long string its length, or four
    times that where a character is outside ASCII.
    """
    width = 1 if text.isascii() else _WIDEST
    nodes = len(text) - len(text.translate(None, _STARTS)) + 1
    return width * len(text) + NODE_BYTES * nodes
