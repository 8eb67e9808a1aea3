"""The faces: what other people's code may import, and that importing it does nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: Each package of `workers`, and the names that it offers.
PUBLIC = {
    "workers.answer": """
        Answer Feedback Json Next Outcome Reading countdown_s http_date machine_code pause_s read
        parse_retry_after read_feedback
    """,
    "workers.auth": """
        Credentials Endpoints NoCredentials StaticSecret Token Tokens discover
    """,
    "workers.broker": "key_options name_settings pool_of queue_of",
    "workers.governor": "Flow Governor LANES",
    "workers.http": """
        Caller ConnectFailed Connection File PooledAdapter Request Route Sent Transfers
    """,
    "workers.ledger": "Ledger idempotency_key part_key step_key",
    "workers.session": "GovernedSession governed_api_client governed_session",
    "workers.settings": """
        AuthSettings Bucket ClientSettings FlowerSettings LimitSettings NotifySettings RouteSettings
        Secrets Settings StoreSettings TenantSettings WorkerSettings bucket_of load tenant_bucket
        worst_case
    """,
    "workers.store": """
        ClientKeys EmbeddedStore Pipeline Reply Scripts Store connect open_embedded open_store
        stop_embedded
    """,
}
#: What loading the faces must not load: it would touch the user's own Celery application.
NOT_LOADED = ("celery", "kombu", "flower", "tornado", "workers.app", "workers.broker")


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("package", PUBLIC)
def test_a_face_offers_exactly_its_public_names(package: str) -> None:
    face = import_module(package)

    assert sorted(face.__all__) == sorted(PUBLIC[package].split())
    for name in face.__all__:
        assert getattr(face, name) is not None


@pytest.mark.parametrize("package", PUBLIC)
def test_a_face_offers_nothing_of_another_package(package: str) -> None:
    face = import_module(package)
    for name in face.__all__:
        home = getattr(getattr(face, name), "__module__", package)
        assert home.startswith(package) or home == "typing", f"{name} is of {home}"  # Any: an alias


def test_every_package_of_workers_has_its_names_pinned() -> None:
    packages = {f"workers.{file.parent.name}" for file in (ROOT / "workers").glob("*/__init__.py")}
    assert packages == PUBLIC.keys()
    assert not hasattr(import_module("workers"), "__all__")


def test_the_faces_load_neither_celery_nor_our_application() -> None:
    faces = ", ".join(sorted(PUBLIC.keys() - {"workers.broker"}))
    code = f"import sys, {faces}; print([it for it in {NOT_LOADED!r} if it in sys.modules])"

    assert run(code).strip() == "[]"


def test_no_face_loads_the_keeper_which_is_run_by_its_name() -> None:
    code = "import sys, workers.store; print('workers.store.keeper' in sys.modules)"

    assert run(code).strip() == "False"


@pytest.mark.parametrize("package", ["workers", "tasks", "orchestration"])
def test_a_package_says_that_it_has_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
