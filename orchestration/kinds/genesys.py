"""The kinds for Genesys Cloud: contacts of a list, campaigns, prompts, response assets."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

from orchestration.intake.campaign_contacts import store_contacts, sum_up_contacts
from orchestration.intake.kind import Command, Kind
from orchestration.intake.readers.campaigns import CAMPAIGN_FIELDS, CampaignOptions, read_campaigns
from orchestration.intake.readers.contacts import ContactOptions, read_contacts
from orchestration.intake.readers.media import (
    ASSETS,
    LANGUAGE,
    MANIFEST_FIELDS,
    PROMPTS,
    Files,
    MediaOptions,
)
from orchestration.intake.readers.source import FileRows, Source
from tasks.genesys.assets import AssetSteps
from tasks.genesys.campaigns import CampaignSteps
from tasks.genesys.contacts import ContactSteps
from tasks.genesys.prompts import PromptSteps
from workers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestration.intake.kind import Check
    from orchestration.intake.readers.media import Naming
    from orchestration.intake.submission import Checked, Loads, Submission
    from tasks.kind import Packing

#: The provider's id of a contact list: one segment of a path.
_LIST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
#: Stands for a list that is not made yet, and is as long as the id that it will have.
_PENDING: Final = str(UUID(int=0))

_CONTACTS_HELP: Final = """\
Submit FILE, a CSV with a header line: contacts of one contact list.

\b
Example:  headgate submit contacts may.csv --client acme --list 7f3a9c --id-column customer
"""
_CAMPAIGNS_HELP: Final = """\
Submit FILE, one JSON object a line: a campaign of Genesys Cloud with a CSV of contacts.

Each line makes a contact list, loads the contacts, makes the campaign and starts it. Paths
of contacts are seen from the folder of FILE. `list` may be left out: it takes its name and
its phoneColumns from the campaign, and its columnNames from the CSV. The contacts are a job
of their own, which `headgate jobs` shows.

\b
Example:  headgate submit campaigns may.jsonl --client acme --no-start
Line:     {"id": "may", "contacts": "may.csv", "id_column": "customer", "campaign": {
            "name": "May", "dialingMode": "agentless", "outboundLineCount": 5,
            "callerName": "Acme", "callerAddress": "+15550100", "site": {"id": "…"},
            "callAnalysisResponseSet": {"id": "…"},
            "phoneColumns": [{"columnName": "phone", "type": "cell"}]}}
More:     "list": {"name", "columnNames", "phoneColumns", and the provider's options},
          "may_fail": good contacts that may be missing at the start, 0; "tenant", "lane"
Modes:    all but agentless need queue and script; all but preview need edgeGroup or site, and
          callAnalysisResponseSet; power and predictive abandonRate, agentless outboundLineCount
"""
_MEDIA_HELP: Final = """\
Submit FILE, a folder of media files or a manifest of them.

Of a folder every file counts (for prompts those of audio), in the order of their names, and
is called by its own name. A manifest is a CSV with a header line, or has one JSON object a
line: path, and where wanted name and language. Paths begin at the manifest's folder.

\b
Example:  headgate submit media prompts/ --client acme --language de-de
Manifest: path,name,language
          de/welcome.wav,welcome,de-de
          en/welcome.wav,welcome,en-us
Needs:    headgate worker --for media
"""


class Contacts(Kind[ContactOptions]):
    """Rows are contacts of one contact list; the list is their scope."""

    name = "contacts"
    command = Command(
        name="contacts",
        help=_CONTACTS_HELP,
    )
    steps = ContactSteps()
    options = ContactOptions
    platform = "genesys"

    def read(self, submission: Submission[ContactOptions], check: Check) -> FileRows:
        """One row a record of the CSV."""
        del check
        source, options = Source(submission.path), submission.options
        columns = {"id_column": options.id_column, "phone_column": options.phone_column}
        return FileRows(source, read_contacts(source, source.name, **columns))

    def check_options(self, options: ContactOptions) -> None:
        """Refuse what is no id of a contact list."""
        if not options.parent and not _LIST.fullmatch(options.contact_list):
            raise UsageError(
                f"list {options.contact_list!r} is no id of a contact list: "
                f"1 to 128 characters out of A-Z a-z 0-9 . _ -, the first a letter or digit"
            )

    def scope(self, options: ContactOptions) -> tuple[str, ...]:
        """The list, and how contacts are known and checked."""
        return options.contact_list, options.id_column, options.phone_column

    def own_params(self, options: ContactOptions) -> Mapping[str, Any]:
        """The list; of contacts of a campaign the campaign, which will name the list."""
        if options.parent:
            return {"contact_list": _PENDING, "parent": options.parent}
        return {"contact_list": options.contact_list}

    def packing(self, options: ContactOptions) -> Packing:
        """As many as the platform takes, or fewer."""
        most = self.steps.packing
        return most if options.batch_size is None else replace(most, rows=options.batch_size)


class Campaigns(Kind[CampaignOptions]):
    """Rows are campaigns with a file of contacts each."""

    name = "campaigns"
    command = Command(
        name="campaigns",
        help=_CAMPAIGNS_HELP,
    )
    steps = CampaignSteps()
    options = CampaignOptions
    fields: ClassVar = {"row": CAMPAIGN_FIELDS}
    platform = "genesys"
    contacts: ClassVar = Contacts()

    def read(self, submission: Submission[CampaignOptions], check: Check) -> FileRows:
        """One row a line; the files of contacts are read by `check`."""
        source = Source(submission.path)
        return FileRows(source, read_campaigns(source, submission, partial(check, self.contacts)))

    def sum_up_loads(self, submission: Submission[CampaignOptions], checked: Checked) -> Loads:
        """The contacts of all campaigns."""
        return sum_up_contacts(submission, checked)

    def store_loads(
        self, submission: Submission[CampaignOptions], checked: Checked, job: str
    ) -> None:
        """The contacts of each campaign become a job, which the step `load` starts."""
        store_contacts(self.contacts, submission, checked, job)

    def own_params(self, options: CampaignOptions) -> Mapping[str, Any]:
        """Whether they are started."""
        return {"start": options.start}


class _Media(Kind[MediaOptions]):
    """Rows are files of a folder or a manifest."""

    command = Command(
        name="media",
        help=_MEDIA_HELP,
        choice="What a file becomes: the audio of an Architect prompt, or a response asset.",
    )
    options = MediaOptions
    fields: ClassVar = {"line of a manifest": MANIFEST_FIELDS}
    platform = "genesys"
    naming: Naming  #: how files are picked and called

    def read(self, submission: Submission[MediaOptions], check: Check) -> FileRows:
        """One row a file."""
        del check
        root, language = submission.client.fleet.worker.media_root, submission.options.language
        files = Files(submission.path, self.naming, root, language)
        return FileRows(files, files.rows())


class Prompts(_Media):
    """Each file is the audio of a prompt in a language."""

    name = "prompts"
    steps = PromptSteps()
    naming = PROMPTS

    def check_options(self, options: MediaOptions) -> None:
        """Refuse what is no language."""
        if not LANGUAGE.fullmatch(options.language):
            raise UsageError(f"language {options.language!r} is none; use such as en-us or de-de")


class Assets(_Media):
    """Each file is a response asset."""

    name = "assets"
    steps = AssetSteps()
    naming = ASSETS


GENESYS_KINDS: Final = (Campaigns.contacts, Campaigns(), Prompts(), Assets())
