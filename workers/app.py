"""The Celery application: `celery -A workers.app worker` works as any Celery user expects.

Only settings stand here; docs/reference/settings.md gives the reason of each. What a worker needs
of the packages above is named in `IMPORTS`, and Celery imports it before it builds a worker.
"""

from __future__ import annotations

import os
import warnings
from typing import Any, Final

from celery import Celery
from celery.exceptions import CPendingDeprecationWarning

from workers.broker import consumer, names, pool, transport
from workers.broker.control import signed_control
from workers.broker.logs import WorkerLog
from workers.clients import clients
from workers.errors import ConfigError
from workers.ledger.installation import Installation
from workers.loader import CeleryRefused, PackageLoader
from workers.store import connection

#: Each of these modules gives the application what it defines: the tasks, and the dispatcher that
#: runs in every worker. The tasks come first.
IMPORTS: Final = ("orchestration.kinds.registered", "orchestration.dispatch.bootstep")

transport.install()
# Celery has no settings for these options: its subcommands read their defaults from the environment
# after this module was imported.
for _flag in ("GOSSIP", "MINGLE"):
    os.environ.setdefault(f"CELERY_WORKER_WITHOUT_{_flag}", "1")
# Flower reads these defaults in the same way. It has no login of its own, and shows neither the
# arguments nor the answers of tasks unless it is told to.
os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")
# Flower's own default of 100,000 would take 300 MB.
os.environ.setdefault("FLOWER_MAX_TASKS", "20000")
os.environ.setdefault("FLOWER_TASKS_COLUMNS", "name,args,state,result,received,runtime,worker,uuid")
# Kubernetes sets this one where a service is named flower; Flower would take it for its own port.
if os.environ.get("FLOWER_PORT", "").startswith("tcp://"):
    del os.environ["FLOWER_PORT"]
# At each lost connection Celery warns of what a later release will do; a user cannot act on it.
warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)


def _configuration() -> dict[str, Any]:
    try:
        config = clients().settings
    except ConfigError as error:
        raise CeleryRefused(str(error)) from None
    return {
        **transport.broker_settings(
            connection.broker_url_of(config.store), names.key_options(config.store.namespace)
        ),
        **names.name_settings(config.store.namespace),
        **consumer.SETTINGS,
        **pool.SETTINGS,
        "imports": IMPORTS,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "worker_concurrency": config.worker.concurrency,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": config.worker.events,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _read_secret() -> bytes:
    config = clients().settings.store
    return Installation(connection.open_store(config), config).secret()


# Celery asks for the configuration when it is first used: a command's help needs none.
app = Celery("headgate", loader=PackageLoader, control=signed_control(_read_secret), log=WorkerLog)
app.add_defaults(_configuration)
