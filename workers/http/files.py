"""Files as they are read to be sent: regular ones, and where a root is set only those below it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path


def open_regular(path: Path) -> BinaryIO:
    """Open a file to be read, without a buffer.

    A pipe would block who opens it, and a device may never end.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(opened, "rb", buffering=0)


def is_below(path: Path, root: Path) -> bool:
    """Whether a path leads to something below the root, whatever links and `..` are in it."""
    return path.resolve().is_relative_to(root.resolve())
