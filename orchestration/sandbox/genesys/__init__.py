"""One organisation's entities in memory, as Genesys Cloud shapes them.

`organisation` hands a call to the kind of entity that it is for; `routes` names the paths, and
`entities` is what all kinds have in common. Each further module is one kind: `lists`, `contacts`,
`campaigns` (with `dialing`), `prompts` and `assets`. `presigned` signs the URLs to which files go.
Nothing here checks tokens, limits, keys or faults, and no other platform stands here.
"""

from orchestration.sandbox.genesys.organisation import Genesys
from orchestration.sandbox.genesys.presigned import FileSlot
from orchestration.sandbox.genesys.routes import mask_ids

__all__ = ["FileSlot", "Genesys", "mask_ids"]
