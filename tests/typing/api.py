"""What code of other people may rely on, as mypy sees it: checked by `make lint`, never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import requests

from orchestration.transactions import submit_transaction
from workers.answer import Answer, Next, Outcome, Reading, read
from workers.auth import Credentials, Endpoints, StaticSecret, discover
from workers.clients import Client, Clients, clients
from workers.errors import CircuitOpen, ConfigError, HeadgateError, NotNow, Throttled, UsageError
from workers.http import Caller, Request
from workers.session import GovernedSession, governed_session
from workers.settings import Bucket, ClientSettings, LimitSettings, Settings, bucket, load
from workers.store import ClientKeys, Store, open_store

if TYPE_CHECKING:
    from workers.governor import Governor
    from workers.ledger import Ledger

# A `requests` session on the quota of a client.
session = governed_session("acme", lane="urgent", tenant="emea", wait_s=10)
assert_type(session, GovernedSession)
assert_type(session.get("/api/v2/outbound/campaigns"), requests.Response)
try:
    session.post("/api/v2/outbound/contactlists", json={"name": "Spring"}).raise_for_status()
except CircuitOpen as error:
    assert_type(error.wait_s, float)
except Throttled as error:
    assert_type(error.wait_s, float)
except (NotNow, UsageError) as error:
    assert_type(str(error), str)

# A transaction that the workers send.
submitted = submit_transaction("acme", [{"method": "POST", "path": "/lists"}], id="spring-2027")
status = submitted.wait(timeout_s=30)
assert_type(submitted.job, str)
assert_type(status.state, str)

# The configuration, and what follows from it.
settings = load(Path("headgate.toml"))
assert_type(settings, Settings)
assert_type(settings.clients, dict[str, ClientSettings])
assert_type(settings.worker.tick_s, float)
limit = LimitSettings(name="app", count=300, window_s=60)
assert_type(bucket(limit), Bucket)
assert_type(bucket(limit).rate, float | None)

# One client in this process.
fleet = clients()
assert_type(fleet, Clients)
client = fleet["acme"]
assert_type(client, Client)
assert_type(client.settings(), ClientSettings)
assert_type(client.keys, ClientKeys)
assert_type(client.store, Store)
assert_type(open_store(settings.store), Store)


def parts(client: Client) -> tuple[Governor, Ledger, Credentials]:
    """A client's quota, its record and its credentials."""
    return client.governor(), client.ledger, client.tokens()


# One call by hand, and what its answer means.
caller = Caller(settings.client("acme"), pool_size=1)
with caller.connection() as connection:
    answer = connection.send(Request("GET", "/lists", {"Accept": "application/json"}))
assert_type(answer, Answer)
assert_type(answer.retry_after_s, float | None)
reading = read(answer)
assert_type(reading, Reading)
done = reading.outcome is Outcome.EXECUTED and reading.next is Next.DONE
assert_type(done, bool)
secret: Credentials = StaticSecret(settings.client("acme"))
assert_type(discover("11eb"), Endpoints)

kinds_of_error: tuple[type[HeadgateError], ...] = (ConfigError, NotNow)
