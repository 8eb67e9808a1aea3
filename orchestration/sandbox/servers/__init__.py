"""The servers of the sandbox, and how an answer leaves them.

`api` takes the calls of the API, `transfers` the files at a port of its own, and `control` the
orders under `/_sandbox/`. `listener` closes the port of the API for a while. `delivery` writes an
answer to a connection, whole or broken by a fault; `tasks` runs what takes time. No state of the
provider stands here: that is `sandbox.provider`.
"""

from orchestration.sandbox.servers.api import ApiServer
from orchestration.sandbox.servers.control import answer_control
from orchestration.sandbox.servers.listener import Listener
from orchestration.sandbox.servers.tasks import RequestTasks
from orchestration.sandbox.servers.transfers import TransferServer

__all__ = ["ApiServer", "Listener", "RequestTasks", "TransferServer", "answer_control"]
