"""`headgate deploy`: this release's functions come into a store whose other users load none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from tests.conftest import hide_settings
from tests.support import store_users
from workers.store import releases
from workers.store.scripts import library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

    from workers.store.connection import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with the users of the containers."""
    with store_users.serve(tmp_path_factory.mktemp("deploy")) as store:
        yield store


@pytest.fixture
def port(server: Store, monkeypatch: pytest.MonkeyPatch) -> int:
    hide_settings(monkeypatch)
    server.function_flush()
    server.execute_command("ACL", "LOG", "RESET")
    return int(server.connection_pool.connection_kwargs["port"])


def deploy(port: int, monkeypatch: pytest.MonkeyPatch, user: str = "admin", **more: str) -> Result:
    """What the command does as this user."""
    for name, value in {**store_users.settings_as(port, port, ledger=user), **more}.items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(main, ["deploy"], catch_exceptions=False)


def test_the_admin_loads_the_functions_of_this_release_and_says_so(
    server: Store, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # the second time they are there
        done = deploy(port, monkeypatch)

        assert done.exit_code == 0
        assert done.stdout == (
            f"headgate: the store at 127.0.0.1:{port}/0 has the functions of this release "
            f"({library()[0]})\n"
        )
    assert len(server.function_list()) == 1
    assert store_users.refused(server) == []


def test_a_server_that_is_known_to_be_unsafe_is_told_and_gets_the_functions(
    server: Store, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in releases.LEAST_SAFE:
        monkeypatch.setitem(releases.LEAST_SAFE, name, ((250, 1, 2),))

    done = deploy(port, monkeypatch)

    assert done.exit_code == 0
    assert "is known to be unsafe" in done.stderr
    assert done.stderr.endswith("use 250.1.2 or a newer one\n")
    assert len(server.function_list()) == 1


def test_who_may_load_nothing_is_told_who_does(
    server: Store, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = deploy(port, monkeypatch, "headgate")

    assert done.exit_code == 1
    assert "this user may not load them: give `headgate deploy` as a user who may" in done.stderr
    assert not server.function_list()


def test_a_store_that_keeps_its_data_otherwise_than_stated_is_refused(
    server: Store, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = deploy(port, monkeypatch, HEADGATE_STORE__DURABLE="everysec")

    assert done.exit_code == 1
    assert 'store.durable states "everysec", and the store has appendfsync always' in done.stderr
    assert not server.function_list()
