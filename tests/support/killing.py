"""A worker that dies once at a failpoint, and what the provider does meanwhile."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.fleet import Fleet, until
from workers import failpoints

#: Failpoints of a worker; those of commands, campaigns and batches have their own tests.
OF_A_WORKER = [
    name
    for name in failpoints.NAMES
    if name not in ("accepted", "released", "replayed", "recovered", "split", "half_sent")
]


#: Some calls fail at first, so that the retry's failpoint is reached too.
FAULTS = [{"match": "POST *", "when": {"every": 7}, "times": 4, "kind": "5xx_before"}]


def killed_at(fleet: Fleet, failpoint: str, nth: int = 3) -> dict[str, int]:
    """Run with one worker that dies once at the failpoint; returns rows by state."""
    once = fleet.folder / "died"
    env = {"HEADGATE_FAILPOINT": f"{failpoint}:kill:{nth}", "HEADGATE_FAILPOINT_ONCE": str(once)}
    if failpoint == "taken_over":
        env["HEADGATE_FAILPOINT"] = "taken_over:kill:1"
        dies = {"HEADGATE_FAILPOINT": "admitted", "HEADGATE_FAILPOINT_ONCE": f"{once}0"}
        fleet.start_worker("w0", env=dies)
        until((fleet.folder / "died0").exists, what="the death of w0")
        fleet.stop_worker("w0", signal.SIGKILL)  # what it held is for the next one to take over
    fleet.start_worker("w1", env=env)
    states = fleet.wait()
    assert once.exists(), f"nobody came to {failpoint}"
    return states


#: What was written is seen by reads half a second later, and no key is remembered.
SLOW = {"idempotency": "off", "read_lag_s": 0.5}


#: So the last of three looks comes 1.1 s after the send.
LOOKS = {"idempotency": "none", "lookup_after_s": 0.3, "lookups": 3, "lookup_every_s": 0.4}


def lost(kind: str, every: int, **more: Any) -> dict[str, Any]:
    """A fault that hits each row's send once at the most."""
    once = {"when": {"every": every}, "per_business_id_times": 1}
    return {"match": "POST *", "kind": kind, **once, **more}


POISON = {"PYTHONPATH": f"{Path(__file__).parent / 'poison'}{os.pathsep}{Path.cwd()}"}


def a_task(path: str = "", value: object = None, *, body: object = None) -> dict[str, Any]:
    """A task message; the field at `path` (a/b/c) has `value`, or is missing if that is `...`."""
    text = json.dumps([["name"], {}, {"chain": None}] if body is None else body)
    message: dict[str, Any] = {
        "body": base64.b64encode(text.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "mark", "id": "id-1", "eta": None, "timelimit": [None, None]},
        "properties": {
            "delivery_tag": "tag-1",
            "delivery_info": {"exchange": "", "routing_key": "probe"},
            "body_encoding": "base64",
        },
    }
    *parents, last = path.split("/")
    part = message
    for parent in parents:
        part = part[parent]
    if value is ...:
        del part[last]
    elif path:
        part[last] = value
    return message


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


GARBAGE: dict[str, str | bytes | dict[str, Any]] = {
    "words": "not json",
    "nothing": "",
    "half a message": json.dumps(a_task())[:-1],
    "a list": "[]",
    "null": "null",
    "a string": '"x"',
    "a number": "5",
    "not UTF-8": b"\xff\xfe\xfa",
    "nested 20,000 deep": nested(20_000),
    "a long text": "x" * 100_000,
    "an empty object": "{}",
    "only a body": '{"body": 1}',
    "headers that kombu reads as a UUID": a_task(
        "headers", {"__type__": "uuid", "__value__": {"hex": "0" * 32}}
    ),
    "a marker that kombu cannot read": a_task("headers/x", {"__type__": "uuid", "__value__": 5}),
    "a header nested as deep as Python can": json.dumps(a_task("headers/x", "@")).replace(
        '"@"', nested(963)
    ),
    "no headers": a_task("headers", ...),
    "headers null": a_task("headers", None),
    "headers a list": a_task("headers", []),
    "no task": a_task("headers/task", ...),
    "task a list": a_task("headers/task", ["mark"]),
    "no id": a_task("headers/id", ...),
    "id a number": a_task("headers/id", 5),
    "a shadow that is a list": a_task("headers/shadow", ["mark"]),
    "a body that claims to be compressed": a_task("headers/compression", "gzip"),
    "a consumer's tag that is a list": a_task("properties/delivery_info/consumer_tag", ["x"]),
    "eta empty": a_task("headers/eta", ""),
    "eta a list": a_task("headers/eta", []),
    "expires an object": a_task("headers/expires", {}),
    "one time limit": a_task("headers/timelimit", [1]),
    "time limit a number": a_task("headers/timelimit", 1),
    "stamped headers a list of lists": a_task("headers/stamped_headers", [[1]]),
    "no properties": a_task("properties", ...),
    "properties a list": a_task("properties", []),
    "no delivery tag": a_task("properties/delivery_tag", ...),
    "delivery tag a list": a_task("properties/delivery_tag", []),
    "delivery tag half a character": a_task("properties/delivery_tag", "\ud800"),
    "no delivery info": a_task("properties/delivery_info", ...),
    "no exchange": a_task("properties/delivery_info/exchange", ...),
    "no routing key": a_task("properties/delivery_info/routing_key", ...),
    "unknown body encoding": a_task("properties/body_encoding", "rot13"),
    "no content type": a_task("content-type", ...),
    "pickle": a_task("content-type", "application/x-python-serialize"),
    "plain text": a_task("content-type", "text/plain"),
    "content encoding a number": a_task("content-encoding", 5),
    "no body": a_task("body", ...),
    "body a number": a_task("body", 5),
    "body not base64": a_task("body", "!"),
    "body not JSON": a_task("body", base64.b64encode(b"not json").decode()),
    "body an empty list": a_task(body=[]),
    "body 5": a_task(body=5),
    "body an object": a_task(body={"task": "mark", "id": "1", "args": [], "kwargs": {}}),
    "a marker in the body that kombu cannot read": a_task(
        body=[[{"__type__": "uuid", "__value__": 5}], {}, {}]
    ),
    "arguments an object": a_task(body=[{}, {}, {}]),
    "keywords a list": a_task(body=[[], [], {}]),
    "chain a list": a_task(body=[[], {}, []]),
}


def encoded(garbage: str | bytes | dict[str, Any]) -> bytes:
    text = json.dumps(garbage) if isinstance(garbage, dict) else garbage
    return text if isinstance(text, bytes) else text.encode()


def later(fleet: Fleet, seconds: float) -> None:
    """Make the store's state what it will be so many seconds later.

    Its clock cannot be moved, but everything is measured from it: as after a clock that was set
    back, every moment comes so much nearer and every key grows so much older. Nothing may be out.
    """
    at_us = time.time_ns() // 1000 + round(seconds * 1e6)
    fleet.client.store.hset(fleet.client.keys.governor, "at", at_us)
