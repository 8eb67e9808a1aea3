"""The settings of a command: which file it reads, and that nothing else learns of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from orchestration.cli import options
from orchestration.cli.worker import _read_settings
from workers.clients import clients, use_settings
from workers.settings.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World


@pytest.fixture
def other(world: World, tmp_path: Path) -> Path:
    """A second configuration, with a client of another name."""
    file = tmp_path / "other.toml"
    file.write_text(world.config.read_text().replace("acme", "other"))
    return file


def test_a_command_reads_the_file_that_it_was_given_and_tells_no_other_one(
    world: World, other: Path
) -> None:
    before = dict(os.environ)

    result = world.run("limits", "list", "--config", str(other))

    assert result.stdout.startswith("client other")
    assert dict(os.environ) == before
    assert world.run("limits", "list").stdout.startswith("client acme")


def test_a_file_that_is_given_to_a_group_holds_for_the_command_below_it(
    world: World, other: Path
) -> None:
    assert world.run("limits", "--config", str(other), "list").stdout.startswith("client other")
    assert world.run("limits", "--config", str(other)).stdout.startswith("client other")


def test_the_settings_of_a_command_are_read_once(world: World) -> None:
    read = []

    @click.command()
    @options.configured
    def command() -> None:
        read.extend([options.settings(), options.settings()])

    CliRunner().invoke(command, ["--config", str(world.config)], catch_exceptions=False)

    assert read[0] is read[1]


def test_a_wrong_file_is_one_sentence_and_its_help_needs_none(world: World) -> None:
    result = world.run("jobs", "--config", "nowhere.toml")

    assert result.exit_code == 2
    assert "nowhere.toml cannot be read" in result.stderr
    assert result.stderr.count("\n") == 1
    assert world.run("jobs", "--config", "nowhere.toml", "--help").exit_code == 0


def test_the_threads_of_the_command_line_stand_above_those_of_the_file(world: World) -> None:
    assert _read_settings(world.config, None) == load(world.config)
    settings = _read_settings(world.config, 7)
    assert settings.worker.concurrency == 7
    assert settings.clients == load(world.config).clients


@pytest.fixture
def of_this_process(world: World) -> Iterator[World]:
    """A process that has read no settings yet, and forgets those that the test lets it read."""
    use_settings(load)
    yield world
    use_settings(load)


@pytest.mark.usefixtures("of_this_process")
def test_what_a_process_runs_by_is_read_where_the_command_says(other: Path) -> None:
    assert clients().names() == ["acme"]

    use_settings(lambda: load(other))

    assert clients().names() == ["other"]


@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
@pytest.mark.parametrize("name", ["workers", "tasks"])
def test_a_module_that_hides_ours_from_a_command_is_named_in_one_sentence(
    tmp_path: Path, name: str, form: str
) -> None:
    folder = tmp_path / "project"
    file = folder / form.format(name)
    file.parent.mkdir(parents=True)
    file.write_text("raise RuntimeError('it must not run')")
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}

    for args in (["jobs"], ["--help"]):
        ran = subprocess.run(
            [sys.executable, "-m", "orchestration.cli", *args],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert ran.returncode == 2
        assert ran.stderr == (
            f"headgate: {file} hides the package '{name}' of Headgate; run the command from "
            f"another folder, or rename the file\n"
        )


def test_a_users_modules_do_not_hide_ours_from_the_installed_command(
    world: World, tmp_path: Path
) -> None:
    for name in ("workers", "tasks"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('it must not run')")

    ran = subprocess.run(
        [Path(sys.executable).with_name("headgate"), "jobs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, world.run("jobs").stderr)
