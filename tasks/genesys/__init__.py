"""Steps of Genesys Cloud, one module for each kind.

- `operations`: every call of the platform that Headgate knows, with its guard and its permission.
- `contacts`, `campaigns`, `prompts`, `assets`: the steps of the kinds; `media` is what the last two
  share.

The path that a step takes, from grant to verdict, is never here, nor how rows are read from a file.
The steps of NICE CXone would stand in `tasks.nice` in the same way: its operations, and a module
with a `StepKind` for its contact lists.
"""

from tasks.genesys.assets import AssetSteps
from tasks.genesys.campaigns import CampaignSteps
from tasks.genesys.contacts import ContactSteps
from tasks.genesys.prompts import PromptSteps

__all__ = ["AssetSteps", "CampaignSteps", "ContactSteps", "PromptSteps"]
