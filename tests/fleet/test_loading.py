"""What Celery's own command loads from a project folder, and what it says when that is hidden."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestration.views.status import status

if TYPE_CHECKING:
    from tests.support.world import World

#: `celery` as a user types it, and as a module, which looks for modules in the current folder.
SCRIPT = [str(Path(sys.executable).with_name("celery"))]
MODULE = [sys.executable, "-m", "celery"]
APP = ["-A", "workers.app"]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of the user's, without anything of ours."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("celery", [SCRIPT, MODULE], ids=["script", "module"])
def test_a_worker_that_celery_starts_in_a_project_folder_has_the_tasks_and_rings(
    world: World, project: Path, celery: list[str]
) -> None:
    command = [*celery, *APP, "worker", "-c", "3", "-n", "w1@%h"]
    with subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            while not status(world.client).workers:  # a dispatcher has rung
                assert process.poll() is None, process.stdout and process.stdout.read()
            threads = status(world.client).threads
            inspected = run(project, *celery, *APP, "inspect", "registered", "--timeout", "5")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)

    assert threads == 3
    assert inspected.returncode == 0
    for task in ("calls.call", "genesys.add_contacts", "genesys.transfer_prompt"):
        assert task in inspected.stdout


def test_a_users_tasks_do_not_hide_ours_from_celerys_script(world: World, project: Path) -> None:
    (project / "tasks.py").write_text("raise RuntimeError('the tasks of somebody else')")

    with subprocess.Popen([*SCRIPT, *APP, "worker", "-c", "3"], cwd=project) as process:
        try:
            while not status(world.client).workers:
                assert process.poll() is None
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)

    assert process.returncode == 0


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", ["tasks", "orchestration"])
@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
def test_a_module_that_hides_ours_from_celery_is_named_in_one_sentence(
    project: Path, name: str, form: str
) -> None:
    file = project / form.format(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise RuntimeError('it must not run')")

    ran = run(project, *MODULE, *APP, "worker", "-c", "1")

    assert ran.returncode == 2
    assert f"{file} hides the package '{name}' of Headgate" in ran.stderr
    assert ran.stderr.strip().count("\n") == 0
    assert "Traceback" not in ran.stdout + ran.stderr


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("celery", [SCRIPT, MODULE], ids=["script", "module"])
def test_a_folder_workers_of_the_users_is_reported_by_celery_without_a_traceback(
    project: Path, celery: list[str]
) -> None:
    (project / "workers").mkdir()
    (project / "workers" / "__init__.py").touch()

    ran = run(project, *celery, *APP, "worker")

    assert ran.returncode == 2
    assert "The module workers.app was not found" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.usefixtures("world")
def test_a_module_that_a_user_includes_comes_from_the_current_folder(project: Path) -> None:
    (project / "mine.py").write_text("raise SystemExit('mine was imported')")

    ran = run(project, *SCRIPT, *APP, "worker", "--include", "mine")

    assert "mine was imported" in ran.stderr
