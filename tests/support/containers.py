"""A fleet of containers: the product's own image on the nodes of pytest-celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pytest_celery import CeleryTestContainer, CeleryWorkerContainer, RedisContainer

from orchestration.sandbox.process import SandboxControl
from tests.conftest import free_port
from tests.support.fleet import ROOT, SECRET, Fleet, until
from workers.errors import StoreAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_celery import CeleryTestNode, CeleryTestWorker

_SERVICES = yaml.safe_load((ROOT / "compose/compose.yaml").read_text())["services"]
#: How compose.yaml keeps a worker apart, as arguments of a container.
KEPT_APART = {
    "tmpfs": dict(it.split(":") for it in _SERVICES["worker"]["tmpfs"]),
    **{
        name: _SERVICES["worker"][name]
        for name in ("user", "read_only", "cap_drop", "security_opt", "pids_limit", "mem_limit")
    },
}


class Server(RedisContainer):
    """The store, or the broker: as in compose.yaml, reached from here and from the workers."""

    @classmethod
    def image(cls) -> str:
        """That of compose.yaml."""
        return str(_SERVICES["redis"]["image"])

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """Every write is on disk before it is answered."""
        command: list[str] = super().command("--appendonly", "yes", "--appendfsync", "always")
        return [*command, *args]

    @classmethod
    def ports(cls) -> dict[str, Any]:
        """One of this machine's loopback, which stays the same over a restart."""
        return {"6379/tcp": ("127.0.0.1", free_port())}

    @property
    def port(self) -> int:
        """As published; pytest-docker-tools guesses whether the tests run in a container."""
        return int(self.ports["6379/tcp"][0])  # type: ignore[index]


class Sandbox(CeleryTestContainer):
    """The provider."""

    @classmethod
    def command(cls, config: str = "{}", **_: Any) -> list[str]:
        """`headgate sandbox` for everybody on its network."""
        return ["sandbox", "--host", "0.0.0.0", "--port", "8080", "--config", config]  # noqa: S104

    @property
    def ready_prompt(self) -> str:
        """What it prints when it listens."""
        return "sandbox listening on"


class Worker(CeleryWorkerContainer):
    """`headgate worker`, ready when Celery says so."""

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """The image's entrypoint is `headgate`."""
        return ["worker", "--concurrency", "16", "--loglevel", cls.log_level(), *args]

    @classmethod
    def worker_queue(cls) -> str:
        """The one queue of API calls."""
        return "headgate.calls"

    @classmethod
    def initial_env(
        cls, celery_worker_cluster_config: dict[str, Any], initial: dict[str, str] | None = None
    ) -> dict[str, str]:
        """The configuration, but for where store and broker are on the containers' network."""
        url = {
            name: celery_worker_cluster_config[f"celery_{name}_cluster_config"]["urls"][0]
            for name in ("broker", "backend")
        }
        return {
            "HEADGATE_CONFIG": "/etc/headgate.toml",
            "HEADGATE_STORE__URL": url["backend"],
            "HEADGATE_STORE__BROKER_URL": url["broker"],
            "ACME_SECRET": SECRET,
            **(initial or {}),
        }


class ContainerFleet(Fleet):
    """The same fleet, but that each of its parts is a container; pytest's fixtures remove them."""

    workers: dict[str, CeleryTestWorker]  # type: ignore[assignment]

    def place(
        self,
        store: CeleryTestNode,
        broker: CeleryTestNode,
        sandbox: Sandbox,
        worker: Callable[[str], CeleryTestWorker],
    ) -> None:
        """Say where the parts are; `worker` starts the one of a name."""
        self._store, self._broker, self._provider, self._worker = store, broker, sandbox, worker

    def _start(self) -> None:
        self.store_port, self.broker_port = self._store.container.port, self._broker.container.port
        self.sandbox = SandboxControl(f"http://127.0.0.1:{self._provider.ports['8080/tcp'][0]}")
        inside = f"http://{self._provider.attrs['Config']['Hostname']}:8080"
        self._configure(inside, f"{inside}/oauth/token")
        self.config.chmod(0o644)  # the image's user is nobody here

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_worker(self, name: str) -> CeleryTestWorker:  # type: ignore[override]
        """A container more."""
        self.workers[name] = self._worker(name)
        return self.workers[name]

    def kill_worker(self, name: str) -> None:  # type: ignore[override]
        """All of the container at once, with its supervisor; then it is started again."""
        self.workers[name].kill()
        self.workers[name].restart()

    def stop_worker(self, name: str) -> int:  # type: ignore[override]
        """As `docker stop` begins."""
        container = self.workers.pop(name).container
        container.kill("SIGTERM")
        until(lambda: container.reload() or container.status == "exited", 20, f"the end of {name}")
        return int(container.attrs["State"]["ExitCode"])

    def log(self, name: str) -> str:
        """What a worker printed."""
        return str(self.workers[name].logs())

    def kill_store(self) -> None:
        """kill -9 of the store's container."""
        self._store.kill()

    def start_store(self) -> None:
        """The same container, on its data."""
        self._store.restart()
        until(self._store_answers, what="an answer of the store")

    def _store_answers(self) -> bool:
        try:
            return bool(self.client.store.ping())
        except StoreAway:
            return False

    def kill_broker(self) -> None:
        """kill -9 of the broker's container."""
        self._broker.kill()

    def start_broker(self) -> None:
        """The same container."""
        self._broker.restart()
