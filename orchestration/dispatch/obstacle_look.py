"""Looks whether what keeps this worker from a client's calls is gone, beside the ringing."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from workers.errors import ConfigError, HeadgateError, TokenUnavailable
from workers.governor.flows import MEDIA_POOL
from workers.governor.registry import WORKER_ID
from workers.http.route import ConnectFailed

if TYPE_CHECKING:
    from workers.clients import Client

_logger = logging.getLogger(__name__)


def look_again(client: Client, pool: str) -> None:
    """Look in a thread of its own, unless such a look was begun just now: it may wait for others.

    Args:
        client: Of which an obstacle is noted.
        pool: What the threads of this worker do.
    """
    if client.obstacle.claim_look():
        look = partial(look_for_obstacle, client, pool)
        threading.Thread(target=look, name="look-again", daemon=True).start()


def look_for_obstacle(client: Client, pool: str) -> None:
    """Look whether something keeps this pool from the client's calls, and note it."""
    why = client.obstacle.why
    try:
        why = _find_obstacle(client, pool)
    except HeadgateError:
        pass  # the look said nothing
    except Exception:  # a look that ended here would be the last one
        _logger.exception("client %s: what kept this worker from its calls stays", client.name)
    if why:
        client.obstacle.note(why)
    else:
        client.obstacle.clear()


def _find_obstacle(client: Client, pool: str) -> str:
    """What keeps this pool, and not every other one, from the client's calls; "" = nothing.

    Raises:
        HeadgateError: nobody knows.
    """
    try:
        client.require_bound()
        client.governor()
        if pool == MEDIA_POOL:
            client.transfers().require_way()
        elif why := _find_broken_way(client):
            return why
        else:
            client.tokens().get()
    except ConfigError as error:
        return str(error)
    except TokenUnavailable as error:
        return str(error) if error.refused or error.overdue else ""
    return ""


def _find_broken_way(client: Client) -> str:
    """Why this process cannot connect while others can; "" = it can, or nobody can."""
    try:
        client.caller().reach()
    except ConnectFailed as error:
        return str(error) if client.governor().fails_alone(WORKER_ID) else ""
    client.governor().note_connected(WORKER_ID)
    return ""
