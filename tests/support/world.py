"""One configured client in a namespace of its own, with work in the store and no worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.views.progress import all_jobs
from workers.answer.outcome import Outcome
from workers.answer.verdict import Finish, Verdict
from workers.governor.grants import Grant, Settled

if TYPE_CHECKING:
    from click.testing import Result


import time
from typing import TYPE_CHECKING
from uuid import uuid4

from click.testing import CliRunner

from orchestration.cli import main
from orchestration.dispatch import pages
from orchestration.dispatch.presence import Presence
from tests.support.stored import a_job
from workers.answer.verdict import Advance
from workers.clients import Clients
from workers.governor.registry import WORKER_ID
from workers.ledger.ledger import PageCounts
from workers.settings.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from workers.clients import Client
    from workers.governor.grants import Bell


SECRET = "canary-secret-9f2d"


DONE = Advance(outcome=Outcome.EXECUTED, status=201)


FAILED = Finish(state="failed", outcome=Outcome.NOT_EXECUTED, status=400, error="refused (400)")


class World:
    """The client `acme`; its provider is a port where nobody listens."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self.config = folder / "headgate.toml"
        self.namespace = uuid4().hex
        self.store_url = store_url
        self.configure()

    def configure(
        self, base_url: str = "http://127.0.0.1:9", limits: str = "count = 1000", more: str = ""
    ) -> None:
        """Write the configuration anew."""
        self.config.write_text(
            f'[store]\nurl = "{self.store_url}"\nnamespace = "{self.namespace}"\n'
            f'[clients.acme]\nbase_url = "{base_url}"\ntoken_url = "{base_url}/oauth/token"\n'
            f'client_id = "demo"\nclient_secret_env = "ACME_SECRET"\nidempotency = "key"\n'
            f'connect_timeout_s = 1\n{more}\n[[clients.acme.limits]]\nname = "app"\n{limits}\n'
        )
        self.clients = Clients(load(self.config))
        self.client: Client = self.clients["acme"]

    def start_heartbeat(
        self, name: str = "w1@here", threads: int = 64, worker_id: str = WORKER_ID
    ) -> Presence:
        """A worker process with the configuration of now comes to life."""
        presence = Presence(self.clients, name, threads=threads, pool="calls", worker_id=worker_id)
        presence.keep()
        return presence

    @property
    def gov(self) -> str:
        """The governor's hash."""
        return self.client.keys.governor

    @property
    def job(self) -> str:
        """The hash of the job `j1`."""
        return self.client.keys.job("j1")

    def due(self, key: str) -> str:
        """What waits for its due time in the flow of a transaction's step."""
        return self.client.keys.backlog(self.client.ledger.transaction(key).flow) + ":due"

    def tx(self, key: str) -> str:
        """The hash of a transaction."""
        return self.client.keys.transaction(key)

    def run(self, *args: str) -> Result:
        """What `headgate ARGS` does in this process."""
        return CliRunner().invoke(main, [*args], catch_exceptions=False)

    def accept(self, count: int, job: str = "j1", *, more: list[Any] | None = None) -> None:
        """Accept `count` good rows of two steps, and `more` as they are."""
        rows = [
            {
                "line": n + 1,
                "id": f"{job}-{n}",
                "steps": [
                    {
                        "name": name,
                        "method": "POST",
                        "path": path,
                        "body": {"phone": "canary-cell-4711"},
                    }
                    for name, path in (("make", "/things"), ("start", "/things/{make.id}/start"))
                ],
            }
            for n in range(count)
        ] + (more or [])
        ledger = self.client.ledger
        ledger.begin(a_job(job))
        rejected = sum("error" in row for row in rows)
        ledger.accept(job, 0, rows, PageCounts(rejected=rejected, calls=2 * count))

    def submit(self, count: int, job: str = "j1", *, more: list[Any] | None = None) -> None:
        """Accept rows, and let them into the line."""
        self.accept(count, job, more=more)
        self.client.ledger.start(job)
        pages.open_next_page(self.client, job)

    def bells(self, count: int, threads: int = 64) -> list[Bell]:
        """Ring as the worker `w1` until so many bells are out, or a few more; returns so many."""
        found: list[Bell] = []
        give_up = time.monotonic() + 10
        while len(found) < count:
            assert time.monotonic() < give_up, "no bells: is something waiting?"
            found += self.client.governor().ring("w1", threads).bells
        return found[:count]

    def admit(self, bell: Bell) -> Grant:
        """Admit one bell, which must be granted."""
        grant = self.client.governor().admit(bell.key, bell.step)
        assert isinstance(grant, Grant)
        return grant

    def work(self, verdict: Verdict = DONE) -> None:
        """Be the fleet until every opened row has ended; each call gets this verdict."""
        while any(it.state == "running" for it in all_jobs(self.client)):
            for bell in self.client.governor().ring("w1", 64).bells:
                step, settled = bell.step, Settled.RING
                while settled is Settled.RING:
                    grant = self.client.governor().admit(bell.key, step)
                    if not isinstance(grant, Grant):
                        break
                    settled, step = self.client.governor().settle(grant, verdict), step + 1


WHY = ("--reason", "the list is there now", "--by", "maria")


def die(
    world: World, count: int, verdict: Verdict = FAILED, job: str = "j1", made: str = "made-{}"
) -> list[str]:
    """A job whose rows end so at their second step; returns their keys as they died."""
    world.submit(count, job)
    governor, died = world.client.governor(), list[str]()
    while len(died) < count:
        for bell in governor.ring("w1", 64).bells:
            step, settled = bell.step, Settled.RING
            while settled is Settled.RING:
                grant = governor.admit(bell.key, step)
                if not isinstance(grant, Grant):
                    break
                done = replace(DONE, provider_id=made.format(grant.place.index))
                settled, step = governor.settle(grant, done if step == 1 else verdict), step + 1
            died += [bell.key] if settled is Settled.END else []
    return died


def one_dead(world: World, verdict: Verdict = FAILED) -> str:
    """The key of the only row of `j1`, which ended so at its second step."""
    (key,) = die(world, 1, verdict)
    return key
