"""Every name on the broker: each carries the namespace, so that two share nothing on one server.

It stands in front of the names of queues and exchanges, which count on any broker, and of the keys
that kombu keeps on Redis beside them. Several names end alike, and those of kombu's keys begin
with a colon behind the namespace, which no namespace has: so no two namespaces build the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.errors import ConfigError
from workers.governor.flows import CALLS_POOL, MEDIA_POOL, POOLS

if TYPE_CHECKING:
    from collections.abc import Collection


def queue_of(namespace: str, pool: str) -> str:
    """The queue from which the workers of a pool take their bells."""
    return f"{namespace}.{pool}"


def pool_of(namespace: str, queues: Collection[str]) -> str:
    """The pool of a worker that takes from these queues.

    Raises:
        ConfigError: they are those of both pools, or none of them is one of this namespace.
    """
    queue_names = {pool: queue_of(namespace, pool) for pool in POOLS}
    own = [pool for pool, queue in queue_names.items() if queue in queues]
    if len(own) == 1:
        return own[0]
    each = " and one with -Q ".join(queue_names.values())
    if own:
        raise ConfigError(
            f"a worker is for {CALLS_POOL} or for {MEDIA_POOL}, or transfers would take the "
            f"threads of calls; start one with -Q {each}"
        )
    raise ConfigError(
        f"no bell comes to the queue {', '.join(queues)} in namespace {namespace}; start one "
        f"worker with -Q {each}"
    )


def name_settings(namespace: str) -> dict[str, Any]:
    """Celery's settings that name something on the broker."""
    return {
        "task_default_queue": queue_of(namespace, CALLS_POOL),
        "control_exchange": namespace,  # to which kombu adds its `.pidbox`
        "event_exchange": f"{namespace}.celeryev",
        "event_queue_prefix": f"{namespace}.celeryev",
    }


def key_options(namespace: str) -> dict[str, str]:
    """Options of `workers.broker.transport` that name keys on Redis."""
    own = f"{namespace}:kombu"
    return {
        "unacked_key": f"{own}.unacked",
        "unacked_index_key": f"{own}.unacked_index",
        "unacked_mutex_key": f"{own}.unacked_mutex",
        "keyprefix_queue": f"{own}.binding.%s",
        "keyprefix_binding_deadlines": f"{own}.binding_deadlines",
        "keyprefix_binding_permanent": f"{own}.binding_permanent.%s",
        "garbage_key": f"{namespace}.garbage",
    }
