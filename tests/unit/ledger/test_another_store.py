"""A configuration that leads to another store than before stops, until a person chose that one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.support.world import World, one_dead
from workers import app
from workers.clients import Clients
from workers.errors import StoreReplaced
from workers.ledger import audit
from workers.ledger.identity import SCHEMA
from workers.ledger.installation import Installation
from workers.settings.load import load
from workers.store.connection import connect
from workers.store.embedded import stop_embedded
from workers.store.keys import installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from workers.store.connection import Store

WHY = ("--reason", "we moved", "--by", "maria")
NEW = ("recover", "--new-installation", *WHY)


def number(world: World, database: int) -> str:
    """The URL of another database of the tests' server: another store."""
    return f"{world.store_url.rpartition('/')[0]}/{database}"


def lead(world: World, *, url: str = "", namespace: str = "") -> None:
    """Change what the configuration says of its store; nothing is opened."""
    text = world.config.read_text()
    if url:
        text = text.replace(f'url = "{world.store_url}"', f'url = "{url}"')
        world.store_url = url
    if namespace:
        text = text.replace(world.namespace, namespace)
    world.config.write_text(text)


def another_server(world: World) -> str:
    url = number(world, 7)
    lead(world, url=url)
    return f"{url.removeprefix('redis://')} (namespace {world.namespace})"


def another_namespace(world: World) -> str:
    lead(world, namespace="mistyped")
    return f"{world.store_url.removeprefix('redis://')} (namespace mistyped)"


@pytest.fixture
def worked(world: World) -> World:
    """A world whose configuration has worked with its store."""
    one_dead(world)
    return world


@pytest.fixture
def there(world: World) -> Iterator[Store]:
    """The store of another number; what the test leaves there is removed."""
    with connect(number(world, 7)) as store:
        yield store
        for key in list(store.scan_iter("*")):
            store.delete(key)


@pytest.fixture
def five_rows(world: World) -> str:
    path = world.config.parent / "rows.jsonl"
    rows = [{"id": f"r{n}", "method": "POST", "path": "/x", "guard": "key"} for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def submit(world: World, file: str) -> Result:
    return world.run("submit", "calls", file, "--client", "acme")


@pytest.mark.parametrize("mistype", [another_server, another_namespace])
def test_a_store_that_is_named_by_mistake_gets_no_row_and_one_sentence_says_what_differs(
    worked: World, there: Store, five_rows: str, mistype: Callable[[World], str]
) -> None:
    assert submit(worked, five_rows).exit_code == 0
    here = f"{worked.store_url.removeprefix('redis://')} (namespace {worked.namespace})"
    before = set(worked.client.store.scan_iter("mistyped:*"))
    named = mistype(worked)

    for command in (
        ("submit", "calls", five_rows, "--client", "acme"),
        ("status",),
        ("jobs",),
        ("limits", "list"),
        ("client", "resume", "acme", *WHY),
        ("recover", "--since", "2026-01-01T00:00:00Z", *WHY),
    ):
        result = worked.run(*command)
        assert (result.exit_code, result.stdout) == (1, ""), command
        assert result.stderr.count("\n") == 1
        for text in (here, named, "correct store.url or store.namespace", "--new-installation"):
            assert text in result.stderr, command

    assert list(there.scan_iter("*")) == []
    assert set(worked.client.store.scan_iter("mistyped:*")) == before


def test_a_worker_does_not_start_there(
    worked: World, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.cli.worker.use_settings", lambda _: None)
    monkeypatch.setattr("orchestration.dispatch.supervisor.Supervisor.run", lambda _: 0)
    assert worked.run("worker").exit_code == 0
    named = another_server(worked)

    result = worked.run("worker")

    assert result.exit_code == 1
    assert named in result.stderr
    assert list(there.scan_iter("*")) == []


def test_doctor_and_the_check_of_the_configuration_say_so_too(worked: World) -> None:
    named = another_server(worked)

    for command in (("doctor", "--json"), ("config", "check", "--json")):
        result = worked.run(*command)
        assert result.exit_code == 1
        assert named in result.stdout


def test_a_url_that_was_lost_does_not_begin_anew_in_the_embedded_store(
    worked: World, five_rows: str
) -> None:
    folder = worked.client.fleet.store.data_dir
    text = worked.config.read_text()
    worked.config.write_text(text.replace(f'url = "{worked.store_url}"\n', ""))

    try:
        result = submit(worked, five_rows)
    finally:
        stop_embedded(folder)

    assert result.exit_code == 1
    assert f"in {folder} (namespace {worked.namespace})" in result.stderr


def test_the_embedded_store_is_not_left_without_a_word_for_an_empty_server(
    world: World, there: Store, five_rows: str
) -> None:
    text = world.config.read_text()
    world.config.write_text(text.replace(f'url = "{world.store_url}"\n', ""))
    try:
        result = submit(world, five_rows)
        assert result.exit_code == 0, result.stderr
    finally:
        stop_embedded(world.client.fleet.store.data_dir)
    world.config.write_text(text.replace(world.store_url, number(world, 7)))

    assert submit(world, five_rows).exit_code == 1
    assert list(there.scan_iter("*")) == []


def test_a_server_of_another_installation_is_not_taken_either(worked: World, there: Store) -> None:
    there.hset(
        installation(worked.namespace), mapping={"secret": uuid4().hex, "schema": str(SCHEMA)}
    )
    another_server(worked)

    result = worked.run("status")

    assert result.exit_code == 1
    assert "has another installation" in result.stderr


def test_a_server_that_carries_the_same_installation_goes_on_and_is_remembered(
    worked: World, there: Store
) -> None:
    record = worked.client.store.hgetall(installation(worked.namespace))
    there.hset(installation(worked.namespace), mapping=record)
    moved = another_server(worked)

    assert worked.run("status").exit_code == 0

    lead(worked, url=number(worked, 8))
    assert f"the store at {moved}" in worked.run("status").stderr


def test_a_configuration_that_goes_back_works_at_once(worked: World) -> None:
    here = worked.store_url
    another_server(worked)
    assert worked.run("status").exit_code == 1

    lead(worked, url=here)

    assert worked.run("status").exit_code == 0


def test_another_configuration_of_the_folder_is_first_used_without_a_question(
    worked: World, there: Store, five_rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = worked.config.with_name("staging.toml")
    other.write_text(worked.config.read_text().replace(worked.store_url, number(worked, 7)))
    monkeypatch.setenv("HEADGATE_CONFIG", str(other))

    assert submit(worked, five_rows).exit_code == 0

    assert there.exists(installation(worked.namespace))
    monkeypatch.setenv("HEADGATE_CONFIG", str(worked.config))
    assert worked.run("status").exit_code == 0


def test_a_person_chooses_the_other_store_once_and_every_machine_goes_either_way_then(
    worked: World, there: Store, five_rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = worked.client.installation
    before, here = mine.id, worked.store_url
    monkeypatch.setenv("HEADGATE_STORE__DATA_DIR", "another-machine")
    assert worked.run("status").exit_code == 0
    monkeypatch.delenv("HEADGATE_STORE__DATA_DIR")
    another_server(worked)

    result = worked.run(*NEW)

    assert (result.exit_code, result.stderr) == (0, "")
    (entry,) = audit.read(there, worked.client.keys)
    assert (entry.action, entry.before) == ("new installation", before)
    assert submit(worked, five_rows).exit_code == 0
    monkeypatch.setenv("HEADGATE_STORE__DATA_DIR", "another-machine")
    assert worked.run("status").exit_code == 0
    monkeypatch.delenv("HEADGATE_STORE__DATA_DIR")
    for url in (here, number(worked, 7)):
        lead(worked, url=url)
        assert worked.run("status").exit_code == 0
    assert worked.run(*NEW).exit_code == 2


def test_what_is_remembered_holds_no_password_and_is_no_reason_to_stop_when_damaged(
    worked: World,
) -> None:
    settings, here = worked.client.fleet.store, worked.store_url.removeprefix("redis://")
    folder, url = settings.data_dir, f"redis://app:canary-password@{here}"
    with_password = settings.model_copy(update={"url": SecretStr(url)})
    Installation(worked.client.store, with_password).check()
    texts = [file.read_bytes() for file in folder.iterdir()]
    assert not any(b"canary" in text for text in texts)

    (last,) = folder.glob("last-store.*")
    for damaged in (b"", b"\xff\n\n", b"one line", b"a\nb\nc\nd\n"):
        last.write_bytes(damaged)
        lead(worked, url=number(worked, 7))
        assert worked.run("status").exit_code == 0, damaged


def test_doctor_says_where_the_folder_cannot_remember_which_store_was_used(worked: World) -> None:
    (last,) = worked.client.fleet.store.data_dir.glob("last-store.*")
    last.unlink()
    last.mkdir()

    result = worked.run("doctor")

    assert list(last.parent.glob("last-store.*")) == [last]

    assert f"not remembered, for {last.parent} cannot be written" in result.stdout
    assert worked.run("status").exit_code == 0


def test_a_control_command_makes_no_installation_in_a_store_that_is_not_ours(
    worked: World, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_server(worked)
    monkeypatch.setattr(app, "clients", lambda: Clients(load(worked.config)))

    with pytest.raises(StoreReplaced):
        app._read_secret()

    assert list(there.scan_iter("*")) == []


def test_a_worker_that_is_led_there_is_no_worker_of_that_store_and_has_no_say_in_its_limits(
    worked: World, there: Store
) -> None:
    another_server(worked)
    worked.clients = Clients(load(worked.config))

    with pytest.raises(StoreReplaced):
        worked.start_heartbeat()

    assert list(there.scan_iter("*")) == []
