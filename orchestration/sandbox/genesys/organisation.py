"""The organisation: which kind of entity a call is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.sandbox.genesys.assets import AssetsApi
from orchestration.sandbox.genesys.campaigns import CampaignsApi
from orchestration.sandbox.genesys.contacts import ContactsApi
from orchestration.sandbox.genesys.entities import Entities
from orchestration.sandbox.genesys.lists import ListsApi
from orchestration.sandbox.genesys.presigned import PresignedUrls
from orchestration.sandbox.genesys.prompts import PromptsApi
from orchestration.sandbox.genesys.routes import (
    ASSETS_PATH,
    CAMPAIGNS_PATH,
    LISTS_PATH,
    PROMPTS_PATH,
    parts_below,
)

if TYPE_CHECKING:
    from orchestration.sandbox.calls import ApiOperation, Call


class Genesys:
    """The operations of this API that the sandbox knows; files go to `transfer_port`."""

    def __init__(self, transfer_port: int) -> None:
        self.presigned = PresignedUrls(transfer_port)
        lists = Entities(LISTS_PATH)
        contacts = ContactsApi(lists)
        self._kinds = {
            LISTS_PATH: (ListsApi(lists, contacts), contacts),
            CAMPAIGNS_PATH: (CampaignsApi(lists, contacts),),
            PROMPTS_PATH: (PromptsApi(self.presigned),),
            ASSETS_PATH: (AssetsApi(self.presigned),),
        }

    def operation(self, call: Call) -> ApiOperation | None:
        """Return what the call asks for; None: not one of this API's calls."""
        for path, kinds in self._kinds.items():
            parts = parts_below(path, call.path)
            if parts is None:
                continue
            for kind in kinds:
                if operation := kind.operation(call, parts):
                    return operation
        return None
