"""Messages that this installation did not write: bells and broadcasts of a stranger."""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

from workers.ledger.identity import SCHEMA
from workers.store.connection import connect

if TYPE_CHECKING:
    from tests.support.fleet import Fleet
    from workers.store.connection import Store

QUEUE = "headgate.calls"
TASK = "calls.call"
CONTROL = "headgate.pidbox"


def message(
    task: str, args: object, kwargs: object = None, embed: object = None, **headers: object
) -> str:
    """A task message as it lies in a queue; everything in it may be wrong."""
    chain = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([args, kwargs or {}, embed or chain])
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "retries": 0}
            | {"schema": SCHEMA}
            | headers,
            "properties": {
                "delivery_tag": str(uuid.uuid4()),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
            },
        }
    )


def broadcast(body: object, **headers: object) -> str:
    """A message of remote control as it is published."""
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"clock": 1, "expires": 0, **headers},
            "properties": {
                "delivery_tag": str(uuid.uuid4()),
                "delivery_mode": 1,
                "delivery_info": {"exchange": CONTROL, "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
            },
        }
    )


def forged_bells(client: str, key: str, other: str) -> dict[str, str]:
    """Each way in which a bell for step 1 of `key`, a call, can be none; `other` is a client."""
    names = [client, key, 1]
    true = {"task": TASK, "args": names, "kwargs": {}, "options": {}, "immutable": True}
    links = {"callbacks": [true], "errbacks": [true], "chain": [true], "chord": true}
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    wrong_names = {
        "no names": [],
        "two names": names[:2],
        "four names": [*names, 1],
        "another client": [other, key, 1],
        "an unknown client": ["nobody", key, 1],
        "a client of a MB": ["x" * 2**20, key, 1],
        "a client that is a list": [[client], key, 1],
        "no client": [None, key, 1],
        "an unknown key": [client, str(uuid.UUID(int=7)), 1],
        "an empty key": [client, "", 1],
        "a key of a MB": [client, "k" * 2**20, 1],
        "a key that is no Unicode": [client, "\ud800", 1],
        "a key that is an object": [client, {"key": key}, 1],
        "a key that kombu reads as another type": [
            client, {"__type__": "uuid", "__value__": {"hex": key.replace("-", "")}}, 1,
        ],
        "no key": [client, None, 1],
        "an earlier step": [client, key, 0],
        "a later step": [client, key, 2],
        "a step below 0": [client, key, -1],
        "a huge step": [client, key, 10**30],
        "a step that is a text": [client, key, "1"],
        "a step that is a float": [client, key, 1.0],
        "a step that is true": [client, key, True],
        "no step": [client, key, None],
        "a step that is a list": [client, key, [1]],
        "names as deep as a worker takes": [client, key, deep],
    }  # fmt: skip
    kinds = ("genesys.add_contacts", "genesys.campaign", "genesys.make_prompt", "genesys.load")
    return {
        **{f"of kind {task}": message(task, names) for task in kinds},
        **{f"of kind {task}, with links": message(task, names, None, links) for task in kinds},
        **{name: message(TASK, args) for name, args in wrong_names.items()},
        "keyword names": message(TASK, [], {"client": client, "key": key, "step": 1}),
        "names twice": message(TASK, names, {"step": 1}),
        "an unknown keyword": message(TASK, names, {"kind": "calls"}),
        "schema 2": message(TASK, names, schema=2),
        "a schema that is a text": message(TASK, names, schema="1"),
        "no schema": message(TASK, names, schema=None),
        "malformed, with links": message(TASK, [client], None, links),
        "a map of Celery's": message(
            "celery.map", [], {"task": {"task": kinds[0], "args": []}, "it": [names]}
        ),
        "a map of several names": message(
            "celery.starmap", [], {"task": {"task": kinds[0], "args": []}, "it": [names]}
        ),
        "a group of Celery's": message("celery.group", [[], 1, [], {}]),
        "a chain of Celery's": message("celery.chain", [[]]),
        "a chord of Celery's": message("celery.chord", [[], {}]),
        "chunks of Celery's": message("celery.chunks", [{"task": kinds[0]}, [names], 1]),
        "a sum of Celery's": message("celery.accumulate", ["x"]),
        "an unknown task": message("somebody.task", names),
    }


#: Commands by which somebody on the broker would change a worker, with their arguments.
CHANGES: dict[str, dict[str, Any]] = {
    "pool_shrink": {"n": 15},
    "pool_grow": {"n": 5},
    "cancel_consumer": {"queue": QUEUE},
    "add_consumer": {"queue": "elsewhere"},
    "rate_limit": {"task_name": TASK, "rate_limit": "1/h"},
    "time_limit": {"task_name": TASK, "soft": 0.001, "hard": 0.001},
    "revoke": {"task_id": ["some-id"], "terminate": True, "signal": "KILL"},
    "terminate": {"task_id": ["some-id"], "signal": "KILL"},
    "revoke_by_stamped_headers": {"headers": {"a": ["b"]}},
    "hello": {"from_node": "stranger", "revoked": ["some-id"]},
    "enable_events": {},
    "disable_events": {},
    "heartbeat": {},
    "autoscale": {"max": 1, "min": 1},
    "pool_restart": {},
    "election": {"id": "e", "topic": "t"},
    "memsample": {},
    "objgraph": {},
    "shutdown": {},
}


def forged_broadcasts(node: str) -> dict[str, str]:
    """What a stranger may broadcast: every change, and texts that are no control message."""
    signed = {"headgate_signature": ["1.0", "nonce", "0" * 64]}
    replied = {"reply_to": {"exchange": "reply.headgate.pidbox", "routing_key": "r"}, "ticket": "t"}
    slow = {"pattern": "(.*.*)*.*.*=.*.*$", "matcher": "pcre"}
    found = {}
    for name, arguments in CHANGES.items():
        body = {"method": name, "arguments": arguments}
        found |= {
            name: broadcast(body),
            f"{name} to the node": broadcast({**body, "destination": [node]}),
            f"{name} with a reply": broadcast({**body, **replied}),
            f"{name} with a signature": broadcast({**body, "arguments": {**arguments, **signed}}),
        }
    wrong: dict[str, Any] = {
        "a list": [1],
        "a text": "shutdown",
        "no method": {"arguments": {}},
        "a method that is a list": {"method": ["shutdown"], "arguments": {}},
        "arguments that are a list": {"method": "ping", "arguments": [1]},
        "an argument that no command has": {"method": "stats", "arguments": {"state": 1}},
        "ids that are lists": {"method": "query_task", "arguments": {"ids": [[1]]}},
        "an answer elsewhere": {
            "method": "ping", "reply_to": {"exchange": "", "routing_key": QUEUE}, "ticket": "t",
        },
        "an answer nowhere": {"method": "ping", "reply_to": "me", "ticket": "t"},
        "a pattern that takes for ever": {"method": "ping", **slow},
        "a signature that is a number": {
            "method": "shutdown", "arguments": {"headgate_signature": 5},
        },
    }  # fmt: skip
    found |= {name: broadcast(body) for name, body in wrong.items()}
    return found | {"a clock that is a text": broadcast({"method": "ping"}, clock="late")}


def broker_of(fleet: Fleet) -> Store:
    """The broker's database, as a stranger has it open."""
    return connect(f"redis://127.0.0.1:{fleet.broker_port}/1")


def ledger_of(fleet: Fleet, client: str) -> dict[str, Any]:
    """All that the store holds of a client, but for what each beat of a dispatcher moves."""
    store, found = fleet.client.store, dict[str, Any]()
    beats = ("w:", "m:", "o:", "next", "owner", "at")
    for name in store.scan_iter(f"headgate:{{{client}}}:*"):
        match store.type(name):
            case "hash":
                hash_: dict[str, str] = store.hgetall(name)  # type: ignore[assignment]
                moving = beats if name.endswith(":gov") else ()
                found[name] = {k: v for k, v in hash_.items() if not k.startswith(moving)}
            case "zset":
                found[name] = store.zrange(name, 0, -1, withscores=True)
            case "list":
                found[name] = store.lrange(name, 0, -1)
            case "set":
                found[name] = store.smembers(name)
            case "stream":
                found[name] = store.xrange(name)
            case _:
                found[name] = store.strlen(name)
    return found
