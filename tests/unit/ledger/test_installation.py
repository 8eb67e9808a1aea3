"""A store that was emptied or replaced is noticed by whoever remembers it, and nothing leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from orchestration.transactions import SubmittedTransaction
from orchestration.views.progress import follow
from tests.support.stored import a_job
from tests.support.world import World, one_dead
from workers.clients import Clients
from workers.errors import StoreReplaced
from workers.ledger import audit
from workers.ledger.identity import SCHEMA
from workers.ledger.installation import Installation
from workers.ledger.ledger import PageCounts
from workers.session.limiter import Limiter
from workers.settings.load import load
from workers.store.keys import installation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHY = ("--reason", "the disk was lost", "--by", "maria")
NOBODY = "0b9c1b7e-0000-8000-8000-000000000001"
NEW = ("recover", "--new-installation", *WHY)


def keys_of(world: World) -> list[str]:
    return list(world.client.store.scan_iter(f"{world.namespace}:*", count=1000))


def wipe(world: World) -> None:
    """What FLUSHALL does to this namespace."""
    world.client.store.delete(*keys_of(world))


def swap(world: World) -> str:
    """Another installation in its place, whose client has the same name; returns its secret."""
    wipe(world)
    other = uuid4().hex
    record = {"secret": other, "schema": SCHEMA}
    world.client.store.hset(installation(world.namespace), mapping=record)
    return other


LOSSES = {"wiped": wipe, "swapped": swap}


@pytest.fixture(params=LOSSES)
def lost(world: World, request: pytest.FixtureRequest) -> World:
    """A world that worked, and whose store was lost meanwhile."""
    one_dead(world)
    LOSSES[request.param](world)
    return world


def a_file(world: World) -> str:
    row = {"id": "r1", "method": "POST", "path": "/x", "guard": "key", "body": {}}
    path = world.config.parent / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return str(path)


def test_every_command_of_a_machine_that_remembers_the_store_stops_in_one_sentence(
    lost: World,
) -> None:
    before = keys_of(lost)

    for command in (
        ("status",),
        ("jobs",),
        ("report", "j1"),
        ("submit", "calls", a_file(lost), "--client", "acme"),
        ("limits", "set", "acme", "app", "--count", "5", *WHY),
        ("client", "pause", "acme", "--for", "1m", *WHY),
        ("recover", "--since", "2026-01-01T00:00:00Z", *WHY),
        ("limits", "apply", "0123456789ab", *WHY),
        ("limits", "list"),
        ("client", "resume", "acme", *WHY),
        ("client", "rebind", "acme", *WHY),
        ("watch", "j1"),
        ("audit",),
        ("dead", "list"),
        ("dead", "discard", NOBODY, *WHY),
        ("campaign", "progress", "j1"),
    ):
        result = lost.run(*command)
        assert (result.exit_code, result.stdout) == (1, ""), command
        assert result.stderr.count("\n") == 1
        assert "emptied or replaced" in result.stderr
        assert f"installation.{lost.namespace}.server" in result.stderr
        assert "--new-installation" in result.stderr
    assert keys_of(lost) == before


def test_the_check_of_the_configuration_says_so_too(lost: World) -> None:
    result = lost.run("config", "check", "--json")

    assert result.exit_code != 0
    assert "emptied or replaced" in json.loads(result.stdout)["problems"][0]


def test_following_a_job_stops_with_the_same_sentence(world: World) -> None:
    world.submit(2)
    looks = follow(world.client, "j1", away=lambda _: None, wait=lambda _: wipe(world))
    assert next(looks).state == "running"

    with pytest.raises(StoreReplaced, match="emptied or replaced"):
        next(looks)


def test_waiting_for_a_transaction_stops_with_the_same_sentence(lost: World) -> None:
    key = lost.client.key("j1", "j1-0")
    submitted = SubmittedTransaction(key, "j1", "j1-0", new=True, _client=lost.client)

    with pytest.raises(StoreReplaced, match="emptied or replaced"):
        submitted.wait(timeout_s=0.1)


def test_doctor_says_so_and_fails(lost: World) -> None:
    result = lost.run("doctor", "--json")

    assert result.exit_code == 1
    assert "emptied or replaced" in result.stdout


def test_a_live_process_is_refused_by_every_script_and_writes_nothing(lost: World) -> None:
    before, client = keys_of(lost), lost.client
    ledger, governor = client.ledger, client.governor()
    limiter = Limiter(client, 1)
    attempts: dict[str, Callable[[], Any]] = {
        "ring": lambda: governor.ring("w1", 8),
        "sweep": governor.sweep,
        "permit": lambda: limiter.acquire("POST /x", 1.0),
        "begin": lambda: ledger.begin(a_job("j2")),
        "accept": lambda: ledger.accept("j1", 1, [{}], PageCounts(calls=1)),
        "start": lambda: ledger.start("j1"),
        "open": lambda: ledger.open("j1", 1, {}, [], []),
        "token": lambda: client.tokens().get(0.1),
        "requeue": lambda: governor.requeue("key", 1),
    }

    for name, attempt in attempts.items():
        with pytest.raises(StoreReplaced, match="emptied or replaced"):
            attempt()
        assert keys_of(lost) == before, name


def test_a_live_process_is_granted_no_call_and_does_not_wait_for_the_store(world: World) -> None:
    world.submit(1)
    (bell,) = world.bells(1)
    mark = world.client.keys.mark(world.client.installation.id)
    world.client.store.delete(mark)

    with pytest.raises(StoreReplaced):
        world.client.governor().admit(bell.key, bell.step)

    world.client.store.set(mark, "1")
    world.admit(bell)


def test_a_live_process_makes_no_key_and_no_mark_for_a_client_that_it_opens_later(
    world: World,
) -> None:
    clients = Clients(load(world.config))
    clients["acme"].governor()
    swap(world)
    clients._by_name.clear()

    with pytest.raises(StoreReplaced):
        clients["acme"]
    assert keys_of(world) == [installation(world.namespace)]


def test_the_right_store_that_comes_back_is_worked_with_at_once(world: World) -> None:
    key = one_dead(world)
    store = world.client.store
    held = {name: store.execute_command("DUMP", name, NEVER_DECODE=True) for name in keys_of(world)}
    wipe(world)
    with pytest.raises(StoreReplaced):
        world.client.governor().ring("w1", 8)

    for name, value in held.items():
        store.execute_command("RESTORE", name, 0, value)

    assert world.client.governor().ring("w1", 8).bells == []
    assert world.run("status").exit_code == 0
    assert world.client.key("j1", "j1-0") == key


def test_a_machine_that_never_saw_the_store_adopts_it_and_remembers(world: World) -> None:
    one_dead(world)
    file = Installation(world.client.store, world.client.fleet.store).memory.file
    before = file.read_text()
    file.unlink()

    assert world.run("status").exit_code == 0

    assert file.read_text() == before
    assert world.client.installation.secret().hex() not in before


def test_two_servers_from_one_folder_are_two_installations(world: World) -> None:
    one_dead(world)
    here, there = world.store_url, f"{world.store_url.rpartition('/')[0]}/7"

    text = world.config.read_text()
    world.config.write_text(text.replace(here, there))
    assert world.run(*NEW).exit_code == 0  # a person chooses the second one, once
    for url in (there, here, there):
        world.store_url = url
        world.configure()
        assert world.run("submit", "calls", a_file(world), "--client", "acme").exit_code == 0

    wipe(world)  # each of them is still missed
    assert world.run("status").exit_code == 1
    world.store_url = here
    world.configure()
    assert world.run("status").exit_code == 0


@pytest.mark.parametrize(
    "other", ["redis://LOCALHOST:{port}", "redis://app:secret@localhost:{port}/0?socket_timeout=9"]
)
def test_a_server_is_one_installation_whoever_connects_and_however_its_url_is_written(
    world: World, other: str
) -> None:
    port = world.store_url.rpartition(":")[2].partition("/")[0]
    files = []
    for url in (f"redis://localhost:{port}/0", other.format(port=port)):
        settings = world.client.fleet.store.model_copy(update={"url": SecretStr(url)})
        files.append(Installation(world.client.store, settings).memory.file)

    assert files[0] == files[1]
    assert "secret" not in files[1].name


def test_the_file_of_an_earlier_release_goes_on_for_the_server_that_it_remembers(
    world: World,
) -> None:
    one_dead(world)
    file = Installation(world.client.store, world.client.fleet.store).memory.file
    before = file.with_name(f"installation.{world.namespace}.server")
    remembered = file.read_text()
    file.rename(before)
    here = world.store_url

    world.store_url = f"{here.rpartition('/')[0]}/7"  # it may be this one that was emptied
    with pytest.raises(StoreReplaced):
        world.configure()
    assert world.run("status").exit_code == 1
    assert before.read_text() == remembered
    world.store_url = here
    world.configure()
    assert world.run("status").exit_code == 0

    assert file.read_text() == remembered
    assert not before.exists()


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    monkeypatch.setenv("HEADGATE_STORE__DATA_DIR", str(tmp_path / "taken"))
    world.configure()
    one_dead(world)

    assert world.run("status").exit_code == 0


def test_a_new_installation_is_chosen_by_a_person_audited_and_followed_by_other_machines(
    lost: World,
) -> None:
    mine = Installation(lost.client.store, lost.client.fleet.store)
    before = mine.memory.read()

    result = lost.run(*NEW)

    assert (result.exit_code, result.stderr) == (0, "")
    assert lost.run("status").exit_code == 0
    (entry,) = audit.read(lost.client.store, lost.client.keys)
    after = mine.memory.read()
    assert (entry.action, entry.by, entry.reason) == (
        "new installation", "maria", "the disk was lost",
    )  # fmt: skip
    assert (entry.before, entry.after) == (before, after)
    assert before != after
    mine.memory.keep(before)  # as another machine that remembers the old one
    assert lost.run("status").exit_code == 0
    assert mine.memory.read() == after
    with pytest.raises(StoreReplaced):  # a live process has read jobs and keys of the old one
        lost.client.governor().ring("w1", 8)


def test_a_worker_that_ran_before_is_named_as_one_that_does_nothing_until_it_starts_again(
    world: World,
) -> None:
    one_dead(world)
    presence = world.start_heartbeat("w1@here")
    presence.keep(now=True)  # its first call has told it which installation it works for
    wipe(world)
    presence.keep(now=True)

    result = world.run(*NEW)

    assert result.exit_code == 0
    assert "start all workers again" in result.stdout
    assert "alive: w1@here (process" in result.stdout
    shown = world.run("status").stdout
    assert "workers       0 alive" in shown
    assert "works for the installation that this store had before, and does nothing" in shown
    doctor = world.run("doctor")
    assert doctor.exit_code == 1
    assert "and does nothing; start it again" in doctor.stdout
    presence.end()
    world.clients = Clients(world.clients.settings)  # as a process that is started again
    world.start_heartbeat("w1@here").keep(now=True)
    assert "workers       1 alive" in world.run("status").stdout
    assert world.run("doctor").exit_code == 0


def test_it_is_not_chosen_where_the_store_is_the_remembered_one(world: World) -> None:
    one_dead(world)

    result = world.run(*NEW)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "is the one that this machine remembers" in result.stderr
    assert audit.read(world.client.store, world.client.keys) == []


@pytest.mark.parametrize(
    "words",
    [
        ("recover", "--new-installation"),
        ("recover", "--new-installation", "--since", "2026-01-01T00:00:00Z", *WHY),
        ("recover", "--new-installation", "--dry-run", *WHY),
    ],
)
def test_it_is_not_chosen_by_accident(lost: World, words: tuple[str, ...]) -> None:
    before = keys_of(lost)

    result = lost.run(*words)

    assert result.exit_code == 2
    assert keys_of(lost) == before
    assert lost.run("status").exit_code == 1


def test_the_data_folder_belongs_to_the_file_wherever_a_command_is_given(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert load(world.config).store.data_dir == tmp_path / ".headgate"
