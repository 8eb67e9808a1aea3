"""What a case of tests/cluster may ask of a fleet, wherever its parts run.

`tests.support.fleet.Fleet` runs them as processes of this machine, `tests.support.containers` as
containers of the product's own image on the nodes of pytest-celery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from workers.clients import Client


class AnyFleet(Protocol):
    """A store, a broker, a sandbox, and workers by name."""

    client: Client  #: its ledger is the store's
    limits: list[dict[str, Any]]

    def start_worker(self, name: str) -> object:
        """One worker more."""

    def kill_worker(self, name: str) -> None:
        """kill -9; whoever supervises it starts it again."""

    def stop_worker(self, name: str) -> int:
        """SIGTERM; returns the exit code once it has drained."""

    def kill_store(self) -> None:
        """kill -9."""

    def start_store(self) -> None:
        """Again, on its data; returns when it answers."""

    def kill_broker(self) -> None:
        """kill -9."""

    def start_broker(self) -> None:
        """Again."""

    def submit(self, rows: list[dict[str, Any]], job: str = "job") -> str:
        """Accept rows as a job."""

    def wait_for(self, count: int) -> None:
        """Wait until at least so many rows have ended."""

    def wait(self, job: str = "job") -> dict[str, int]:
        """Wait until every row of a job has ended; returns the counts by state."""

    def report(self) -> dict[str, Any]:
        """The sandbox's journal in numbers."""

    def effects(self) -> list[dict[str, Any]]:
        """Every effect at the sandbox."""

    def requests(self) -> list[dict[str, Any]]:
        """Every request at the sandbox."""
