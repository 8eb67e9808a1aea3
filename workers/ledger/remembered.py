"""What a machine remembers of its stores, in files of the data folder.

    installation.NAMESPACE.server-DIGEST   the id of the installation on this server, or
    installation.NAMESPACE.embedded        in the store of this folder
    last-store.DIGEST                      the store that a configuration used last, and its id

The first two show that a store was emptied or replaced. The third shows that a configuration leads
to another store than before; its digest is that of the configuration file's path, seen from the
data folder. There is one for the file itself, and one for the path by which it was named where that
differs: the first holds by whatever link the file is named, the second when a folder of that path,
such as `current`, leads to a new release of the file. No file holds a password, or the secret from
which an id follows.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import astuple, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from workers.settings.place import find_itself
from workers.settings.redis_url import place_of

if TYPE_CHECKING:
    from workers.settings.load import StoreSettings


@dataclass(frozen=True, slots=True)
class UsedStore:
    """A store that a configuration used."""

    place: str
    namespace: str
    installation: str  #: its id

    def __str__(self) -> str:
        return f"the store {self.place} (namespace {self.namespace})"


@dataclass(frozen=True, slots=True)
class Memory:
    """What this machine remembers of the store of one configuration."""

    settings: StoreSettings
    place: str  #: of the store, without user and password

    def read(self) -> str:
        """The id that the store should have; "" = this machine and configuration know none."""
        last = self._read_last()
        return self._read_here() or (last.installation if last else "")

    def read_other(self) -> UsedStore | None:
        """The store that the configuration used last, if it knows nothing of the one it names."""
        last = self._read_last()
        here = (self.place, self.settings.namespace)
        known = self._read_here() or last is None or here == (last.place, last.namespace)
        return None if known else last

    def holds(self, installation: str) -> bool:
        """Whether it is known that the configuration used the store with this id last."""
        return _read(self.file) == installation and self._read_last() == self._used(installation)

    def keep(self, installation: str) -> None:
        """Keep the id of the store; a folder that cannot be written is no reason to stop."""
        if _read(self.file) != installation and _write(self.file, installation):
            self._remove_file_of_any_server()
        used = self._used(installation)
        for last in self._last_files:
            if _read_used(last) != used:
                _write(last, "\n".join(astuple(used)))

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.settings.data_dir.expanduser()

    @property
    def file(self) -> Path:
        """The file of the installation on this server."""
        if self.settings.url is None:
            return self._file_of("embedded")
        place = place_of(self.settings.url.get_secret_value())
        return self._file_of(f"server-{_digest(place)}")

    def _file_of(self, kind: str) -> Path:
        return self.folder / f"installation.{self.settings.namespace}.{kind}"

    @property
    def _file_of_any_server(self) -> Path:
        """The file of an earlier release, which had one for all servers."""
        return self._file_of("server")

    def _remove_file_of_any_server(self) -> None:
        if self.settings.url is not None:
            with suppress(OSError):
                self._file_of_any_server.unlink(missing_ok=True)

    @property
    def _last_files(self) -> list[Path]:
        """The file of the configuration itself, then that of the path by which it was named."""
        file = self.settings.file
        paths = (find_itself(file), file) if file else ()
        seen = [os.path.relpath(path, self.folder) for path in paths] or ["no file"]
        return [self.folder / f"last-store.{_digest(path)}" for path in dict.fromkeys(seen)]

    def _read_here(self) -> str:
        here = _read(self.file)
        return here if here or self.settings.url is None else _read(self._file_of_any_server)

    def _read_last(self) -> UsedStore | None:
        return next(filter(None, map(_read_used, self._last_files)), None)

    def _used(self, installation: str) -> UsedStore:
        return UsedStore(self.place, self.settings.namespace, installation)


def _read_used(file: Path) -> UsedStore | None:
    match _read(file).splitlines():
        case [place, namespace, installation]:
            return UsedStore(place, namespace, installation)
    return None


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _write(file: Path, text: str) -> bool:
    """Write a file as a whole; returns whether that worked."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"{text}\n")
        Path(new).replace(file)
    except OSError:
        Path(new).unlink(missing_ok=True)
        return False
    return True
