"""kombu's bindings of queues that expire, kept without scripts.

kombu refreshes and sweeps them by EVALSHA. Whoever may run scripts on a server can stop it for
everybody with an endless one, so these are transactions that do the same, and a user of the broker
needs no right to scripts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.transport import redis as stock
from redis.exceptions import WatchError
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis


class ScriptlessBindings(stock.Channel):
    """kombu's channel, whose two scripts are methods with the same arguments."""

    @override
    def _refresh_binding(self, keys: Sequence[str], args: Sequence[Any], client: Redis) -> None:
        """Add a queue to the table of its exchange, and put off when that is swept."""
        del client  # may be a pipeline, which cannot tell the server's time
        member, exchange, lifetime_ms = args
        with self.conn_or_acquire() as own, own.pipeline() as pipe:
            deadline_ms = _now_ms(own) + lifetime_ms
            pipe.zadd(self.keyprefix_binding_deadlines, {exchange: deadline_ms}, gt=True)
            pipe.sadd(keys[0], member)
            pipe.execute()

    @override
    def _sweep_bindings(self, keys: Sequence[str], args: Sequence[Any], client: Redis) -> int:
        """Delete tables that nobody refreshed in time; returns how many were due.

        A table with queues that do not expire stays. Whatever is refreshed meanwhile ends this
        without a change: the next sweep looks again.
        """
        deadlines, limit = keys[0], args[-1]
        pipe: Any  # redis-py types neither WATCH nor what follows it
        with client.pipeline() as pipe:
            pipe.watch(deadlines)
            until_now = ("-inf", _now_ms(client))
            overdue = pipe.zrange(deadlines, *until_now, byscore=True, offset=0, num=limit)
            due = [name.decode() for name in overdue]
            if not due:
                return 0
            lasting = {name: self.keyprefix_binding_permanent % (name,) for name in due}
            pipe.watch(*lasting.values())
            # kombu's client adds its prefix to the keys of WATCH, but not to those of EXISTS.
            prefix = self.global_keyprefix
            dead = [name for name, key in lasting.items() if not pipe.exists(prefix + key)]
            pipe.multi()
            for name in dead:
                pipe.delete(self.keyprefix_queue % (name,))
            pipe.zrem(deadlines, *due)
            try:
                pipe.execute()
            except WatchError:
                return 0
        return len(due)


def _now_ms(client: Redis) -> int:
    """Ask the server's clock, by which all processes agree."""
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
