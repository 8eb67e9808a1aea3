from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest

from orchestration.demo import contacts as contacts_demo
from orchestration.demo import stage
from orchestration.demo.contacts import ContactsSummary
from orchestration.intake import Submission, check
from orchestration.intake.readers.contacts import ContactOptions
from orchestration.kinds import find_kind
from orchestration.views.progress import snapshot
from tests.support.fleet import until
from workers.errors import HeadgateError
from workers.ledger.batch import rows_of
from workers.store.embedded import connect, read_config, stop_embedded, take_data, try_lock, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World

#: What regulators keep free for films and books: GB, US, AU, DE, FR.
FICTION = re.compile(
    r"\+44 7700 900\d{3}|\+44 1632 960\d{3}|\+44 20 7946 0\d{3}"
    r"|\+1 \d{3} 555 01\d\d|\+61 2 5550 \d{4}"
    r"|\+49 (221 4710|89 99998|30 23125|40 66969|69 90009) \d{3}"
    r"|\+33 (1 99 00|2 61 91|3 53 01|4 65 71|5 36 49) \d\d \d\d"
)


@pytest.fixture
def contacts() -> Path:
    with resources.as_file(resources.files("orchestration.demo") / "contacts.csv") as file:
        return file


def test_the_demo_file_is_5000_rows_with_one_repeat_and_three_bad_lines(
    world: World, contacts: Path
) -> None:
    submission = Submission(
        client=world.client, path=contacts, lane=1,
        options=ContactOptions(
            contact_list="l", id_column="contact_id", phone_column="phone", batch_size=1
        ),
    )  # fmt: skip
    with check(find_kind("contacts"), submission) as it:
        rows = [
            row for page in it.spool.pages(0) for entry in page.entries for row in rows_of(entry)
        ]
    good = [row["data"] for row in rows if "data" in row]

    assert (it.rows, it.rejected, it.joined, it.calls) == (5000, 3, 1, 4996)
    reasons = " ".join(reason for _, reason in it.reasons)
    assert "4 cells for 5 columns" in reasons
    assert "phone: is empty" in reasons
    assert "must be a phone number" in reasons
    assert all(FICTION.fullmatch(data["phone"]) for data in good)
    assert {'Anschluss Köln "Süd" 12', "Línea Málaga 7"} <= {data["label"] for data in good}
    assert any("\n" in data["note"] for data in good)
    assert any("," in data["note"] for data in good)
    assert any(not data["note"] for data in good)


def summary(world: World, **changes: Any) -> ContactsSummary:
    world.submit(4, more=[{"line": 5, "id": "j1-0", "joins": 1}, {"line": 6, "error": "bad"}])
    world.work()
    last = snapshot(world.client, "j1")
    it = ContactsSummary(
        last=last, rejected=[(6, "bad")], joined=1, requests=4, effects=4, calls_per_s=180.0,
        use=1.0, throttled=0, lost=0, duplicates=0,
    )  # fmt: skip
    return dataclasses.replace(it, **changes)


def test_rejected_lines_do_not_keep_the_journal_from_confirming(world: World) -> None:
    assert summary(world).confirmed


@pytest.mark.parametrize(
    "wrong", [{"throttled": 1}, {"lost": 1}, {"duplicates": 1}, {"effects": 3}, {"effects": 5}]
)
def test_a_journal_that_tells_another_story_does_not_confirm(
    world: World, wrong: dict[str, int]
) -> None:
    assert not summary(world, **wrong).confirmed


def test_a_row_that_did_not_succeed_is_not_confirmed(world: World) -> None:
    it = summary(world)
    counts = {**it.last.counts, "succeeded": 4, "unknown": 1}

    assert not dataclasses.replace(it, last=dataclasses.replace(it.last, counts=counts)).confirmed


def test_the_steady_part_leaves_out_how_a_run_begins_and_ends() -> None:
    ramp = [0] * 100
    steady = [10_000_000 + n * 5_000 for n in range(1_000)]
    end = [99_000_000] * 50

    assert contacts_demo._steady_rate(ramp + steady + end) == pytest.approx(200)
    assert contacts_demo._steady_rate([]) == contacts_demo._steady_rate([1]) == 0.0


def test_a_folder_that_is_in_use_is_refused(world: World, tmp_path: Path) -> None:
    result = world.run("demo", "--keep", str(tmp_path))

    assert result.exit_code == 2
    assert "is not empty" in result.stderr


def test_a_worker_that_ends_fails_the_demo_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "w1.log").write_text("one\nno room for this worker\n")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    looks: Any = iter([type("Look", (), {"ended": 0})])

    with pytest.raises(HeadgateError, match="worker w1 ended: no room for this worker"):
        list(stage.require_movement(looks, [ended, ended], tmp_path))


@contextmanager
def running_demo(tmp_path: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A demo in `tmp_path`/run whose workers work."""
    command = [sys.executable, "-m", "orchestration.cli", "demo", "--keep", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdout=-1, stderr=-1
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        shown = ""
        while "rows" not in shown:
            shown = process.stdout.readline()
            assert shown, process.stderr.read()
        yield process


def test_ctrl_c_stops_all_that_the_demo_started_and_reads_nothing_of_the_user(
    tmp_path: Path,
) -> None:
    (tmp_path / "headgate.toml").write_text("this is no TOML")
    environment = {
        "HEADGATE_CONFIG": str(tmp_path / "headgate.toml"),
        "HEADGATE_STORE__URL": "redis://127.0.0.1:9/0",
        "HEADGATE_CLIENTS": "wrong",
    }
    with running_demo(tmp_path, **environment) as process:
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        code, said = process.wait(timeout=40), process.stderr.read()

    assert code == 130
    assert "Traceback" not in said
    assert len(children) == 3  # the sandbox and two workers
    assert not [it for it in children if it.is_running()]
    lock = try_lock(tmp_path / "run" / "store" / "lock")  # the store's keeper has ended
    assert lock is not None
    os.close(lock)
    os.close(take_data(tmp_path / "run" / "store"))  # and its server


def test_a_demo_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    store = tmp_path / "run" / "store"
    with running_demo(tmp_path) as process:
        demo_itself = psutil.Process(process.pid)
        # The sandbox, two supervisors and their workers.
        until(lambda: len(demo_itself.children(recursive=True)) == 5, what="all of the demo")
        left = demo_itself.children(recursive=True)
        process.kill()

    try:
        until(lambda: not [it for it in left if is_alive(it)], what="the end of what it started")
        until(
            lambda: connected(store) == 1, what="a store with its keeper alone, which will end it"
        )
    finally:
        for it in left:
            if it.is_running():
                it.kill()
        stop_embedded(store)


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def connected(store: Path) -> int:
    """Clients of the embedded store beside this one."""
    with connect(url_of(read_config(store))) as client:
        return int(client.info("clients")["connected_clients"]) - 1


def test_what_the_demo_hides_from_its_world_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_STORE__URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("HEADGATE_STORE_BINARY", "/opt/bin/redis-server")
    before = dict(os.environ)

    with stage.hide_user_settings():
        inside = {name: it for name, it in os.environ.items() if name.startswith("HEADGATE_")}

    assert inside == {"HEADGATE_STORE_BINARY": "/opt/bin/redis-server"}
    assert dict(os.environ) == before
