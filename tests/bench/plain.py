"""What many people run today: a plain Celery task that takes a token and sends one request.

The bench holds Headgate's CPU against it. It has the same pool of threads, the same events, a
`requests.Session` and one EVALSHA per call on a bucket that is always full; but no ledger, no key
of a chain, no lease, no fairness, Celery's own transport and no retries. It is the app of
`celery -A tests.bench.plain worker`; everything it needs comes from the environment.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from functools import cache

import redis
import requests
from celery import Celery
from requests.adapters import HTTPAdapter

#: A token bucket as it is found in many projects: tokens and the time of the last look.
BUCKET = """
local time = redis.call("TIME")
local now = time[1] + time[2] / 1000000
local state = redis.call("HMGET", KEYS[1], "tokens", "at")
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local passed = now - (tonumber(state[2]) or now)
local tokens = math.min(burst, (tonumber(state[1]) or burst) + passed * rate)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / rate end
redis.call("HSET", KEYS[1], "tokens", tokens, "at", now)
redis.call("EXPIRE", KEYS[1], 60)
return tostring(wait)
"""

app = Celery("plain", broker=os.environ.get("PLAIN_BROKER"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue="plain",
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
)


@cache
def _bucket() -> tuple[redis.Redis, str]:
    store = redis.Redis.from_url(os.environ["PLAIN_STORE"])
    return store, str(store.script_load(BUCKET))


@cache
def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = (
        False  # no look for .netrc and proxies at each call: the plain task at its best
    )
    session.mount("http://", HTTPAdapter(pool_maxsize=128))
    session.headers["Authorization"] = f"Bearer {os.environ['PLAIN_TOKEN']}"
    return session


@app.task(name="plain.call")
def call(key: str, path: str, body: dict[str, str]) -> None:
    """Take a token and send."""
    store, script = _bucket()
    if float(store.evalsha(script, 1, "plain:bucket", "1000000", "1000000")):  # type: ignore[arg-type]
        raise RuntimeError("the bucket of the comparison must never be empty")
    answer = _session().post(
        os.environ["PLAIN_URL"] + path,
        json=body,
        headers={"Idempotency-Key": key},
        timeout=(5, 30),
    )
    answer.raise_for_status()


def enqueue(count: int, pace: float) -> float:
    """Enqueue `count` calls, `pace` a second or (0) as fast as it goes; the CPU seconds it took."""
    began, began_cpu = time.monotonic(), time.process_time()
    for number in range(count):
        if pace:
            time.sleep(max(0.0, began + number / pace - time.monotonic()))
        call.apply_async((str(uuid.uuid4()), "/things/1", {"business_id": f"r{number}.1"}))
    return time.process_time() - began_cpu


if __name__ == "__main__":
    print(enqueue(int(sys.argv[1]), float(sys.argv[2])))
