"""The installation: one store, and the processes that remember it.

Its secret, from which all keys derive, stands in the store, and its id follows from the secret.
Each client has a mark in the store, a key whose name ends with that id. Every script looks for the
mark before it does anything (lua/prelude.lua), so a store that was emptied or replaced under a live
process lets nothing leave. The data folder remembers the id too, by server and namespace, and which
store the configuration used last (`workers.ledger.remembered`): a machine that remembers another
installation than the store has refuses to work until a person decided. A store at another place
that carries the same installation is the same store.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.errors import StoreReplaced, UsageError
from workers.ledger import identity
from workers.ledger.remembered import Memory
from workers.settings.redis_url import place_of
from workers.store import keys as names
from workers.store.replaced import REMEDY, REMEDY_ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    memory: Memory = field(init=False, repr=False)  #: what this machine remembers of it
    _secret: bytes = field(default=b"", init=False, repr=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.settings, where(self.settings))

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
        known = self.id or self.memory.read()
        if known and known != stored and (self._secret or not self._follows(known, stored)):
            raise StoreReplaced(self._sentence(stored))
        if secret:
            self._secret = secret
            self.memory.keep(stored)

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
        return self.find_marks([keys])[0]

    def find_marks(self, clients: Sequence[ClientKeys]) -> list[str]:
        """The marks of these clients in this order, as `find_mark`."""
        self.secret()
        self.check()  # right before the mark is set: a store that is not ours must not get one
        marks = [keys.mark(self.id) for keys in clients]
        pipe = self.store.pipeline(transaction=False)
        for mark in marks:
            pipe.set(mark, "1", nx=True)
        pipe.execute()
        return marks

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
        namespace, known = self.settings.namespace, self.memory.read()
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
        self.memory.keep(self.id)

    def _follows(self, known: str, stored: str) -> bool:
        """Whether a person chose the stored installation in place of the known one."""
        replaced = self.store.hget(names.installation(self.settings.namespace), "replaces")
        return bool(stored) and known in str(replaced or "").split()

    def _sentence(self, stored: str) -> str:
        memory, namespace = self.memory, f"namespace {self.settings.namespace}"
        if other := memory.read_other():
            has = "another installation" if stored else "no installation"
            return (
                f"this configuration used {other} last, and now it names the store {memory.place} "
                f"({namespace}), which has {has}: rows that were sent would be sent again; "
                f"{REMEDY_ELSEWHERE}"
            )
        what = "is another installation's than" if stored else "no longer has the installation that"
        return (
            f"the store {memory.place} {what} {memory.file} remembers ({namespace}): it was "
            f"emptied or replaced; {REMEDY}"
        )


def where(settings: StoreSettings) -> str:
    """The place of the store, without user and password."""
    if settings.url is None:
        return f"in {settings.data_dir}"
    return f"at {place_of(settings.url.get_secret_value())}"
