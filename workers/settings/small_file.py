"""The text of a file that a person writes: a configuration, a secret, the state of a sandbox."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: More than this no such file has: a device, or another file by mistake, would fill the memory.
MOST_BYTES: Final = 4_000_000


def read_small_file(path: Path) -> str:
    """Read a text whole.

    Raises:
        OSError: it cannot be read, or has more than MOST_BYTES (EFBIG).
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content.decode("utf-8")
