"""The Celery application: `celery -A workers.app worker` works as any Celery user expects.

What is set here, and why, stands in docs/reference/settings.md. Two modules of the rooms above are
loaded by name, the one inversion of the import order: the tasks, and the pacer that runs in every
worker.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

from celery import Celery, bootsteps
from celery.exceptions import CPendingDeprecationWarning

from workers.broker import consumer, transport
from workers.clients import clients
from workers.errors import ConfigError, HeadgateError
from workers.http.connection import pool_size, require_descriptors
from workers.store import connection

#: The queue of API calls; media and events have their own processes and queues.
QUEUE = "calls"
#: That of transfers of files.
MEDIA = "media"
#: How long a thread may compute while others wait. With Python's 5 ms a bell that passes through
#: several threads waits for tens of them while a page is opened.
SWITCH_S = 0.001

transport.install()
# These options have no setting of their own; the subcommand reads its defaults after this module.
for _flag in ("GOSSIP", "MINGLE"):
    os.environ.setdefault(f"CELERY_WORKER_WITHOUT_{_flag}", "1")
# So do these: Flower has no login of its own, and shows neither arguments nor answers unasked.
os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")
os.environ.setdefault("FLOWER_TASKS_COLUMNS", "name,args,state,result,received,runtime,worker,uuid")
# Says at each lost connection what a later Celery will do; nothing a user could act on.
warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)


def _configuration() -> dict[str, Any]:
    config = clients().settings
    return {
        "broker_url": connection.broker_url_of(config.store),
        "broker_transport_options": transport.transport_options(),
        **consumer.SETTINGS,
        "task_default_queue": QUEUE,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "worker_pool": "threads",
        "worker_concurrency": config.worker.concurrency,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": config.worker.events,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


app = Celery("headgate")
app.add_defaults(_configuration)


def _warm_up() -> None:
    """Open what the first call of each client would wait for; what fails is the call's to say."""
    for name in clients().names():
        with suppress(HeadgateError):
            clients()[name].warm_up()


def _pool_of(worker: Any) -> str:  # noqa: ANN401 -- Celery's object
    """What the worker's threads are for: the one of our queues from which it takes."""
    queues = set(worker.app.amqp.queues.consume_from)
    if {QUEUE, MEDIA} <= queues:
        raise ConfigError(
            f"a worker is for {QUEUE} or for {MEDIA}, or transfers would take the threads of "
            f"calls; start one with -Q {QUEUE} and one with -Q {MEDIA}"
        )
    return MEDIA if MEDIA in queues else QUEUE


def _register(sender: Celery, **_: object) -> None:
    """Load the tasks, which reads the configuration: only when the application is used.

    So a command's help needs no configuration, and a command may choose one first.
    """
    import_module("orchestration.kinds").register(sender)


app.on_after_finalize.connect(_register, weak=False)


class _Pacer(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Runs the pacer beside the pool, from the first connection until the drain begins."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 -- Celery's objects
        super().__init__(parent, **options)
        self.pacer: Any = None

    def start(self, parent: Any) -> None:  # noqa: ANN401
        """Begin to ring."""
        pool = _pool_of(parent)
        calls = pool == QUEUE
        require_descriptors(
            sum(
                pool_size(parent.concurrency, client.max_retries) if calls else parent.concurrency
                for client in clients().settings.clients.values()
            )
        )
        sys.setswitchinterval(SWITCH_S)
        if not calls:  # a file that waits in this process behind others may wait for long
            parent.app.conf.worker_disable_prefetch = True
        else:
            threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
        module = import_module("orchestration.dispatch.dispatcher")
        its = (parent.hostname, parent.concurrency, pool)
        self.pacer = module.Pacer(parent.app, clients(), *its)
        self.pacer.start()

    def stop(self, parent: Any) -> None:  # noqa: ANN401
        """Ring no more; what is out will be answered or given back."""
        del parent
        if self.pacer:
            self.pacer.stop()


app.steps["worker"].add(_Pacer)
