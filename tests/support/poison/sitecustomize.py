"""Loaded by a worker under test: a row of the name `poison` kills the process that sends it."""

import os
import signal
import sys
from importlib.abc import MetaPathFinder


class _Poisoner(MetaPathFinder):
    """Waits until tasks.rest.calls was loaded, then spikes it."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        del path, target
        module = sys.modules.get("tasks.rest.calls")
        if name != "tasks.genesys.contacts" or module is None:
            return
        sys.meta_path.remove(self)
        request = module.CallSteps.request

        def poisoned(self: object, row: dict, params: object, grant: object) -> object:
            if row["id"] == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            return request(self, row, params, grant)

        module.CallSteps.request = poisoned


sys.meta_path.insert(0, _Poisoner())
