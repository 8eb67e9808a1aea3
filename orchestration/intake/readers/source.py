"""The submitted file as numbered lines of text, read in constant memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from workers.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.ledger.ledger import Row

#: Longest line, bytes without its end.
MAX_LINE: Final = 512_000

#: Number of the line, from 1, and its text with its end; None stands for a line that is too long.
NumberedLine = tuple[int, str | None]


class FileRows(NamedTuple):
    """A file with its rows, which are read while they are iterated over, once."""

    source: Source  #: its `digest` is that of the whole file when the last row was read
    rows: Iterator[Row]  #: good and rejected ones, in the order of the file


class Source:
    """A file that is read once; afterwards `digest` names its content.

    Raises:
        InputError: while it is read: the file cannot be read, or a line is not UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sha = hashlib.sha256()
        #: The name without its folder, safe to print and to store.
        name = path.name or path.resolve().name  # of "." the folder's own
        self.name = "".join(char if char.isprintable() else "?" for char in name)[:128]

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes that were read so far, hexadecimal."""
        return self._sha.hexdigest()

    def include(self, content: str) -> None:
        """Count the content of another file as content of this one, which names that file."""
        self._sha.update(content.encode())

    def __iter__(self) -> Iterator[NumberedLine]:
        try:
            if not (self._path.is_file() or self._path.is_fifo()):
                self._path.stat()  # says so when it is missing
                raise InputError(f"{self.name} is not a file; name a file")
            with self._path.open("rb") as file:
                yield from self._lines(file)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"{self.name} cannot be read ({reason}); correct the path") from None

    def _lines(self, file: BinaryIO) -> Iterator[NumberedLine]:
        number = 0
        while raw := file.readline(MAX_LINE + 2):
            number += 1
            self._sha.update(raw)
            if len(raw) > MAX_LINE and len(raw.rstrip(b"\r\n")) > MAX_LINE:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE)
                    self._sha.update(raw)
                yield number, None
                continue
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.name}, line {number}, byte {error.start + 1}: this is not UTF-8; save "
                    f"the file as UTF-8"
                ) from None
            if number == 1 and b"\0" in raw:
                raise InputError(
                    f"{self.name}, line 1: this holds NUL characters, as UTF-16 does; save "
                    f"the file as UTF-8"
                )
            yield number, text.removeprefix("\ufeff") if number == 1 else text
