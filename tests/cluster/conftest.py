"""The two fleets of the cluster's cases: processes anywhere, containers where Docker is.

What is a container comes from pytest-celery's own fixtures; those of its names that stand here take
the place of its defaults: the product's image instead of its own, one broker instead of a matrix.
Headgate has no result backend, so the node of the backend is the store.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestWorker,
    CeleryWorkerCluster,
)
from pytest_docker_tools import container, fxtr, volume

from tests.support import engine as docker_engine
from tests.support.containers import KEPT_APART, ContainerFleet, Sandbox, Server, Worker
from tests.support.fleet import Fleet, until
from workers.governor.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery
    from pytest_celery import RedisTestBackend, RedisTestBroker

    from tests.support.any_fleet import AnyFleet

NETWORK = "{default_pytest_celery_network.name}"
WORKERS = ("w1", "w2")  #: that are up when a case begins
#: Slow enough that some calls are under way whenever something is killed.
SLOW = {"latency_ms": 100}


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip without a Docker engine; with REQUIRE_DOCKER=1 fail."""
    if not docker_engine.answers():
        give_up = pytest.fail if os.environ.get("REQUIRE_DOCKER") == "1" else pytest.skip
        give_up("no Docker engine answers")


@pytest.fixture(params=["processes", "containers"])
def fleet(request: pytest.FixtureRequest) -> Iterator[AnyFleet]:
    """A fleet of two workers."""
    if request.param == "containers":
        request.getfixturevalue("engine")
        request.getfixturevalue("celery_setup")
        containers: ContainerFleet = request.getfixturevalue("placed")
        registry = Registry(containers.client.store, "headgate")
        until(lambda: len(registry.look().live) == len(WORKERS), 20, "both workers")
        yield containers
        return
    with Fleet(broker=True, sandbox=SLOW) as it:
        for name in WORKERS:
            it.start_worker(name)
        yield it


# The image


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The product's own, built by its Dockerfile."""
    tag, folder = "headgate:test", docker_engine.copy_project(tmp_path_factory.mktemp("image"))
    docker_engine.find_pinned(folder / "compose")
    dockerfile = str(folder / "compose/Dockerfile")
    docker_engine.docker("build", "-q", "-f", dockerfile, "-t", tag, str(folder), timeout_s=500)
    return tag


# Store and broker


@pytest.fixture
def default_redis_broker_cls() -> type[Server]:
    """The broker's container."""
    return Server


@pytest.fixture
def default_redis_backend_cls() -> type[Server]:
    """The store's container."""
    return Server


def _server(name: str) -> Any:
    return container(
        image=f"{{default_redis_{name}_image}}",
        command=fxtr(f"default_redis_{name}_command"),
        ports=fxtr(f"default_redis_{name}_ports"),
        network=NETWORK,
        volumes={f"{{{name}_data.name}}": {"bind": "/data"}},
        wrapper_class=Server,
        timeout=60,
    )


broker_data, backend_data = volume(), volume()
default_redis_broker, default_redis_backend = _server("broker"), _server("backend")


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> Iterator[CeleryBrokerCluster]:
    """One broker."""
    cluster = CeleryBrokerCluster(celery_redis_broker)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(
    celery_redis_backend: RedisTestBackend,
) -> Iterator[CeleryBackendCluster]:
    """One store."""
    cluster = CeleryBackendCluster(celery_redis_backend)
    yield cluster
    cluster.teardown()


# The provider


@pytest.fixture
def unplaced() -> ContainerFleet:
    """The fleet before any of its parts runs: how they are to be configured."""
    return ContainerFleet(broker=True, sandbox=SLOW)


@pytest.fixture
def sandbox_command(unplaced: ContainerFleet) -> list[str]:
    """With the limits of the fleet."""
    return Sandbox.command(json.dumps(unplaced.sandbox_config))


sandbox = container(
    image="{image}",
    command=fxtr("sandbox_command"),
    ports={"8080/tcp": ("127.0.0.1",)},
    network=NETWORK,
    wrapper_class=Sandbox,
    timeout=60,
    **KEPT_APART,
)


@pytest.fixture
def placed(
    request: pytest.FixtureRequest,
    unplaced: ContainerFleet,
    celery_redis_backend: RedisTestBackend,
    celery_redis_broker: RedisTestBroker,
    sandbox: Sandbox,
) -> Iterator[ContainerFleet]:
    """The fleet without workers."""
    unplaced.place(celery_redis_backend, celery_redis_broker, sandbox, request.getfixturevalue)
    with unplaced:
        yield unplaced


# Workers


def _worker_container(name: str) -> Any:
    return container(
        image="{image}",
        command=Worker.command("--name", name),
        environment=fxtr("default_worker_env"),
        network=NETWORK,
        volumes={"{placed.config}": {"bind": "/etc/headgate.toml", "mode": "ro"}},
        wrapper_class=Worker,
        timeout=60,
        **KEPT_APART,
    )


def _worker(name: str) -> Any:
    @pytest.fixture(name=name)
    def node(
        request: pytest.FixtureRequest, celery_setup_app: Celery
    ) -> Iterator[CeleryTestWorker]:
        it = CeleryTestWorker(request.getfixturevalue(f"{name}_container"), celery_setup_app)
        yield it
        it.teardown()

    return node


w1_container, w2_container, w3_container = map(_worker_container, ("w1", "w2", "w3"))
w1, w2, w3 = map(_worker, ("w1", "w2", "w3"))


@pytest.fixture
def default_worker_container_cls() -> type[Worker]:
    """Of whose environment pytest-celery asks."""
    return Worker


@pytest.fixture
def celery_worker_cluster(placed: ContainerFleet) -> Iterator[CeleryWorkerCluster]:
    """The workers that are up when a case begins."""
    cluster = CeleryWorkerCluster(*map(placed.start_worker, WORKERS))
    yield cluster
    cluster.teardown()
