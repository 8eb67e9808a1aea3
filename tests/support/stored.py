"""The hashes as the store holds them, for tests of the scripts that write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from workers.ledger.job import Job, JobParams

if TYPE_CHECKING:
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys


class Owner(Protocol):
    """A client, or a rig of tests that stands for one."""

    store: Store
    keys: ClientKeys


def transaction_hash(owner: Owner, key: str) -> dict[str, str]:
    """The hash of a transaction; empty when there is none."""
    return owner.store.hgetall(owner.keys.transaction(key))


def job_hash(owner: Owner, job: str) -> dict[str, str]:
    """The hash of a job; empty when there is none."""
    return owner.store.hgetall(owner.keys.job(job))


def a_job(name: str, kind: str = "calls", low: int = 500, **params: Any) -> Job:
    """A job that is to begin; `params` are those of `JobParams` beside its kind."""
    return Job(name=name, params=JobParams(kind=kind, **params), low_water=low)
