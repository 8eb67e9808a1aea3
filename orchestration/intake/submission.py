"""What somebody asks for when they submit a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from orchestration.intake.readers.calls import read_calls
from orchestration.intake.readers.campaigns import read_campaigns
from orchestration.intake.readers.contacts import read_contacts
from orchestration.intake.readers.media import LANGUAGE, MEDIA, Files
from orchestration.intake.readers.rows import tenant_fault
from orchestration.intake.readers.source import Source
from tasks import KINDS
from workers.errors import UsageError
from workers.governor.flows import NO_TENANT
from workers.ledger.job import JobParams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.kind import Packing
    from workers.clients import Client
    from workers.ledger.ledger import Row

#: The provider's id of a contact list: one segment of a path.
_LIST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
#: Stands for a list that is not made yet, and is as long as the id that it will have.
_PENDING: Final = str(UUID(int=0))
#: Kinds that speak to Genesys Cloud only, as they are called for people.
_GENESYS: Final = ("campaigns", *MEDIA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One file, and how its rows are to be read and sent.

    Raises:
        ConfigError: a secret of the client cannot be found.
        UsageError: the tenant or the list cannot be one, or the kind is not for this provider.
    """

    client: Client
    kind: str  #: a name in `tasks.KINDS`
    path: Path
    lane: int  #: of rows that name none, as `workers.governor.flows.lane_of` counts
    tenant: str = NO_TENANT  #: of rows that name none
    contact_list: str = ""  #: contacts: the provider's id of their list
    id_column: str = ""  #: contacts: "" = ids are derived from the content
    phone_column: str = ""  #: contacts: "" = phone numbers are not checked
    language: str = ""  #: prompts: of files that name none
    batch_size: int | None = None  #: contacts: most in one call; None: what the provider takes
    #: contacts of a campaign, which will name their list: its job, "" = not known yet, and its row
    of: tuple[str, str] | None = None
    start: bool = True  #: campaigns: whether they are started

    def __post_init__(self) -> None:
        settings = self.client.settings()
        settings.secrets()
        settings.proxy_password()
        if self.kind in _GENESYS and settings.provider.startswith("nice"):
            raise UsageError(
                f"client {self.client.name} is one of NICE CXone, for which `submit {self.kind}` "
                f"is not built yet; its requests go with `submit calls`"
            )
        if self.tenant != NO_TENANT and (fault := tenant_fault(settings, self.tenant)):
            raise UsageError(f"tenant {self.tenant!r}: {fault}; choose another one or configure it")
        if self.kind == "prompts" and not LANGUAGE.fullmatch(self.language):
            raise UsageError(f"language {self.language!r} is none; use such as en-us or de-de")
        if self.kind == "contacts" and not self.of and not _LIST.fullmatch(self.contact_list):
            raise UsageError(
                f"list {self.contact_list!r} is no id of a contact list: "
                f"1 to 128 characters out of A-Z a-z 0-9 . _ -, the first a letter or digit"
            )

    @property
    def params(self) -> JobParams:
        """What the job's steps need to know beside their rows."""
        params = JobParams(kind=self.kind, lane=self.lane, tenant=self.tenant)
        match self.kind:
            case "campaigns":
                return replace(params, start=self.start)
            case "contacts" if self.of:
                return replace(params, contact_list=_PENDING, parent=self.of)
            case "contacts":
                return replace(params, contact_list=self.contact_list)
        return params

    @property
    def packing(self) -> Packing:
        """How the rows are packed into calls."""
        most = KINDS[self.kind].packing
        return most if self.batch_size is None else replace(most, rows=self.batch_size)

    @property
    def identity(self) -> list[str]:
        """What makes two submissions of one content different jobs.

        Lane, tenant and batch size do not: however it is sent, the content has the same effects.
        Nor does the start of campaigns: who starts them later must not make them twice.
        """
        return [
            self.client.name, self.kind, self.contact_list, self.id_column, self.phone_column
        ]  # fmt: skip

    def source(self) -> Source:
        """The file that is read, or for media a folder of files."""
        if self.kind in MEDIA:
            root = self.client.fleet.worker.media_root
            return Files(self.path, self.kind, root, self.language)
        return Source(self.path)

    def rows(self, source: Source) -> Iterator[Row]:
        """The rows of the file, good and rejected, in its order."""
        if isinstance(source, Files):
            return source.rows()
        if self.kind == "calls":
            return read_calls(source, self.client.settings())
        if self.kind == "campaigns":
            return read_campaigns(source, self)
        return read_contacts(
            source, source.name, id_column=self.id_column, phone_column=self.phone_column
        )
