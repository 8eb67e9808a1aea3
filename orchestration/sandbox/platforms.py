"""The platforms that the sandbox stands in for: the one place that names each of them.

A platform is a package beside this file. To add one, for example contact lists of NICE, make the
package `nice` like `genesys`, and name it here: in `Platforms.operation`, which asks each platform
for the calls it knows, and in `route_of`, where its paths have ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.sandbox.generic import GenericApi
from orchestration.sandbox.genesys import Genesys, mask_ids

if TYPE_CHECKING:
    from orchestration.sandbox.calls import ApiOperation, Call


class Platforms:
    """What every platform remembers; files go to `transfer_port`."""

    def __init__(self, transfer_port: int) -> None:
        self.genesys = Genesys(transfer_port)
        self._generic = GenericApi()

    def operation(self, call: Call) -> ApiOperation:
        """Return what the call asks for; the generic API takes what no platform knows."""
        return self.genesys.operation(call) or self._generic.operation(call)


def route_of(path: str) -> str:
    """Return the path with names in place of the ids; paths of no platform as they are."""
    return mask_ids(path)
