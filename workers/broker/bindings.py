"""kombu's bindings of queues that expire, kept without scripts.

kombu refreshes and sweeps them by EVALSHA. Whoever may run scripts on a server can stop it for
everybody with an endless one, so these are transactions that do the same, and a user of the broker
needs no right to scripts. A broker that refuses them costs a line a minute, and no bell.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from kombu.transport import redis as stock
from redis.exceptions import NoPermissionError, ResponseError, WatchError
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    _Watching = Any  # redis-py types neither WATCH nor what follows it

#: Seconds after a refusal until the next try.
AGAIN_S: Final = 60.0

_logger = logging.getLogger(__name__)


class ScriptlessBindings(stock.Channel):
    """kombu's channel, whose two scripts are methods with the same arguments."""

    _refused_at_s = float("-inf")

    @override
    def maybe_refresh_binding_expiry(self) -> None:
        """Refresh and sweep when it is time; kombu asks each second, and so it would be refused."""
        if time.monotonic() - self._refused_at_s < AGAIN_S:
            return
        try:
            super().maybe_refresh_binding_expiry()  # type: ignore[no-untyped-call]
        except ResponseError as error:
            self._refused_at_s = time.monotonic()
            with self.conn_or_acquire() as client:
                lacking = describe_refusal(client, self._script_binding_deadlines)
            reason = lacking or f"refuses to keep bindings of queues ({error})"
            _logger.warning("the broker %s; next try in %.0f s", reason, AGAIN_S)

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
        pipe: _Watching
        with client.pipeline() as pipe:
            try:
                return self._sweep(pipe, keys[0], _now_ms(client), args[-1])
            except WatchError:
                return 0
            except ResponseError:
                # Who may not give UNWATCH ends WATCH like this, or the pool loses the connection.
                if pipe.connection:
                    pipe.connection.disconnect()
                pipe.watching = False
                raise

    def _sweep(self, pipe: _Watching, deadlines: str, now_ms: int, limit: int) -> int:
        pipe.watch(deadlines)
        due = pipe.zrange(deadlines, "-inf", now_ms, byscore=True, offset=0, num=limit)
        if not due:
            pipe.unwatch()
            return 0
        # kombu writes UTF-8, so any other bytes are a stranger's, and no table has such a name.
        exchanges = [
            text for name in due if (text := name.decode(errors="replace")).encode() == name
        ]
        # kombu's client adds its prefix to the keys of WATCH, but not to those of EXISTS.
        prefix = self.global_keyprefix
        dead = []
        for exchange in exchanges:
            lasting = self.keyprefix_binding_permanent % (exchange,)
            pipe.watch(lasting)
            if not pipe.exists(prefix + lasting):
                dead.append(exchange)
        pipe.multi()
        for exchange in dead:
            pipe.delete(self.keyprefix_queue % (exchange,))
        pipe.zrem(deadlines, *due)
        pipe.execute()
        return len(due)


def describe_refusal(client: Redis, deadlines: str) -> str:
    """Say which commands of a sweep the client's user lacks; "" where that is none.

    Nothing is changed by asking.

    Raises:
        RedisError: the broker gives no answer.
    """
    pool, lacking = client.connection_pool, []
    connection: Any = pool.get_connection()  # redis-py types no sending
    try:
        for command, *args in (
            ("WATCH", deadlines),
            ("UNWATCH",),
            ("ZRANGE", deadlines, 0, 0),
            ("EXISTS", deadlines),
            ("TIME",),
        ):
            connection.send_command(command, *args)
            try:
                connection.read_response()
            except NoPermissionError:
                lacking.append(command)
            except ResponseError:
                continue  # the key is of another type
    finally:
        connection.disconnect()  # which ends WATCH, whoever may not give UNWATCH
        pool.release(connection)
    if not lacking:
        return ""
    return (
        f"refuses its user {', '.join(lacking)} for {deadlines}, so what is left of queues that "
        f"nobody listens to stays there: give the user these commands"
    )


def _now_ms(client: Redis) -> int:
    """Ask the server's clock, by which all processes agree."""
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
