"""Every name on the broker: each carries the namespace, so that two share nothing on one server.

It stands in front of the names of queues and exchanges, which count on any broker, and of the keys
that kombu keeps on Redis beside them. Several names end alike, and those of kombu's keys begin
with a colon behind the namespace, which no namespace has: so no two namespaces build the same one.
"""

from __future__ import annotations

from typing import Any


def queue_of(namespace: str, pool: str) -> str:
    """The queue from which the workers of a pool take their bells."""
    return f"{namespace}.{pool}"


def name_settings(namespace: str, pool: str) -> dict[str, Any]:
    """Celery's settings that name something on the broker.

    Args:
        namespace: Of the installation.
        pool: Whose queue a worker takes from that names none.
    """
    return {
        "task_default_queue": queue_of(namespace, pool),
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
