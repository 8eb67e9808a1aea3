"""The installation: one store, and the processes that remember it.

Its secret, from which all keys derive, stands in the store, and its id follows from the secret.
Each client has a mark in the store, a key whose name ends with that id. Every script looks for the
mark before it does anything (lua/prelude.lua), so a store that was emptied or replaced under a live
process lets nothing leave. The id is also kept in a file of the data folder, one for each server
and namespace: a machine that remembers another installation than the store has refuses to work
until a person decided.
"""

from __future__ import annotations

import hmac
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from workers.errors import StoreReplaced, UsageError
from workers.ledger import identity
from workers.settings.redis_url import read_redis_url
from workers.store import keys as names
from workers.store.replaced import REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.settings.load import StoreSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys


def id_of(secret: bytes) -> str:
    """The id of an installation: it names the secret and does not give it away."""
    return hmac.digest(secret, b"installation", "sha256")[:16].hex() if secret else ""


@dataclass(slots=True)
class Installation:
    """The installation of one configuration, as this process knows it."""

    store: Store
    settings: StoreSettings
    _secret: bytes = field(default=b"", init=False, repr=False)

    @property
    def id(self) -> str:
        """Its id, as far as this process knows it; "" = not yet."""
        return id_of(self._secret)

    def check(self) -> None:
        """Make sure that the store is the one that this process and this machine remember.

        A store without an installation is left as it is, for the first script makes one.

        Raises:
            StoreReplaced: it is another one, or was emptied.
            ConfigError: its record is damaged, or of another schema.
            StoreAway: it does not answer.
        """
        secret = identity.read_secret(self.store, self.settings.namespace)
        stored = id_of(secret)
        known = self.id or self.remembered()
        if known and known != stored and (self._secret or not self._follows(known, stored)):
            raise StoreReplaced(self._sentence(stored))
        if secret:
            self._secret = secret
            self.remember(stored)

    def secret(self) -> bytes:
        """The secret, which is made where there is no installation yet; raises as `check`."""
        if not self._secret:
            self.check()
        if not self._secret:
            identity.installation_secret(self.store, self.settings.namespace)
            self.check()
        return self._secret

    def find_mark(self, keys: ClientKeys) -> str:
        """The name of a client's mark, which is set where it is missing; raises as `check`."""
        self.secret()
        self.check()  # right before the mark is set: a store that is not ours must not get one
        mark = keys.mark(self.id)
        self.store.set(mark, "1", nx=True)
        return mark

    def choose(self, approve: Callable[[str, str], None]) -> None:
        """Take the store as it is for this installation, on a person's word.

        An empty store gets an installation. Machines that remember the old one follow when they
        look next; processes that live are to be started again.

        Args:
            approve: Writes down the old id and the new one, before anything follows.

        Raises:
            UsageError: the store is the one that this machine remembers, or it remembers none.
            ConfigError, StoreAway: as `check`.
        """
        namespace, known = self.settings.namespace, self.remembered()
        secret = identity.read_secret(self.store, namespace)
        if not known or known == id_of(secret) or self._follows(known, id_of(secret)):
            what = "is the one that this machine remembers" if known else "is remembered by nobody"
            raise UsageError(
                f"the store {where(self.settings)} {what} (namespace {namespace}): there is "
                f"nothing to choose"
            )
        self._secret = secret or identity.installation_secret(self.store, namespace)
        approve(known, self.id)
        record = names.installation(namespace)
        replaced = str(self.store.hget(record, "replaces") or "")
        self.store.hset(record, "replaces", f"{replaced} {known}".strip())
        self.remember(self.id)

    def _follows(self, known: str, stored: str) -> bool:
        """Whether a person chose the stored installation in place of the known one."""
        replaced = self.store.hget(names.installation(self.settings.namespace), "replaces")
        return bool(stored) and known in str(replaced or "").split()

    def _sentence(self, stored: str) -> str:
        place = where(self.settings)
        namespace = f"namespace {self.settings.namespace}"
        what = "is another installation's than" if stored else "no longer has the installation that"
        return (
            f"the store {place} {what} {self.file} remembers ({namespace}): it was emptied or "
            f"replaced; {REMEDY}"
        )

    # What the machine remembers

    @property
    def file(self) -> Path:
        """The file in which this machine remembers the installation on this server."""
        if self.settings.url is None:
            return self._file_of("embedded")
        server = read_redis_url(self.settings.url.get_secret_value())
        digest = sha256(server.place.encode()).hexdigest()[:12]
        return self._file_of(f"server-{digest}")

    def _file_of(self, kind: str) -> Path:
        folder = self.settings.data_dir.expanduser()
        return folder / f"installation.{self.settings.namespace}.{kind}"

    @property
    def _file_of_any_server(self) -> Path:
        """The file of an earlier release, which had one for all servers."""
        return self._file_of("server")

    def remembered(self) -> str:
        """The id that this machine remembers; "" = none."""
        if self.settings.url is None:
            return _read(self.file)
        return _read(self.file) or _read(self._file_of_any_server)

    def remember(self, stored: str) -> None:
        """Keep the id in the file; a folder that cannot be written is no reason to stop."""
        if _read(self.file) == stored:
            return
        with suppress(OSError):
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, new = tempfile.mkstemp(dir=self.file.parent, prefix=f"{self.file.name}.")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{stored}\n")
            Path(new).replace(self.file)
            if self.settings.url is not None:
                self._file_of_any_server.unlink(missing_ok=True)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def where(settings: StoreSettings) -> str:
    """The place of the store, without user and password."""
    if settings.url is None:
        return f"in {settings.data_dir}"
    return f"at {read_redis_url(settings.url.get_secret_value()).place}"
