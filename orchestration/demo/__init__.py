"""The demos: real files through real workers to a strict provider, all on this machine.

`contacts`, `campaigns` and `media` are one demo each, and `stage` sets what each of them needs. A
demo asks the provider's journal what it has received, and compares that with the ledger. A demo
prints nothing: its caller shows the looks and the summary.
"""

from __future__ import annotations

from orchestration.demo.campaigns import CampaignsLook, CampaignsSummary, run_campaigns
from orchestration.demo.contacts import ContactsSummary, run_contacts, run_contacts_on
from orchestration.demo.media import MediaSummary, run_media

__all__ = [
    "CampaignsLook",
    "CampaignsSummary",
    "ContactsSummary",
    "MediaSummary",
    "run_campaigns",
    "run_contacts",
    "run_contacts_on",
    "run_media",
]
