"""One organisation's entities in memory, as Genesys Cloud shapes them.

`routes` names the paths, `entities` is what every kind has in common, and each other module is
one kind: `lists`, `contacts`, `campaigns`, `prompts`, `assets`. A file goes to a signed URL at
another host, of which `presigned` says where and on what terms; `sandbox.transfers` takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.sandbox.genesys.assets import Assets
from orchestration.sandbox.genesys.campaigns import Campaigns
from orchestration.sandbox.genesys.contacts import Contacts
from orchestration.sandbox.genesys.entities import Entities
from orchestration.sandbox.genesys.lists import Lists
from orchestration.sandbox.genesys.presigned import Presigned
from orchestration.sandbox.genesys.prompts import Prompts
from orchestration.sandbox.genesys.routes import ASSETS, CAMPAIGNS, LISTS, PROMPTS, parts_below

if TYPE_CHECKING:
    from orchestration.sandbox.calls.call import Call, Operation


class Genesys:
    """The operations of this API that the sandbox knows; files go to `transfer_port`."""

    def __init__(self, transfer_port: int) -> None:
        self.presigned = Presigned(transfer_port)
        lists = Entities(LISTS)
        contacts = Contacts(lists)
        self._rooms = {
            LISTS: (Lists(lists, contacts), contacts),
            CAMPAIGNS: (Campaigns(lists, contacts),),
            PROMPTS: (Prompts(self.presigned),),
            ASSETS: (Assets(self.presigned),),
        }

    def operation(self, call: Call) -> Operation | None:
        """Return what the call asks for; None: not one of this API's calls."""
        for path, rooms in self._rooms.items():
            parts = parts_below(path, call.path)
            if parts is None:
                continue
            for room in rooms:
                if operation := room.operation(call, parts):
                    return operation
        return None
