"""The library of the scripts in the store: loaded when it is missing, and of no other release."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, DONE, EP, HELD, Rig
from workers.errors import FunctionUnknown, LedgerDamaged, StoreAway
from workers.store import scripts
from workers.store.connection import connect
from workers.store.keys import ClientKeys
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from workers.store.connection import Store

ROOT = Path(__file__).parents[2]


def calls(store: Store, command: str) -> int:
    """How often the server ran a command so far."""
    return int(store.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def test_a_store_that_forgot_the_functions_is_given_them_once_and_asked_again(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    key = rig.line_up(1)[0]
    rig.fill()
    rig.ring()
    grant = rig.grant(key)
    store.function_flush()
    loaded, called = calls(store, "function|load"), calls(store, "fcall")

    assert rig.governor.settle(grant, DONE).value == "END"

    assert calls(store, "function|load") == loaded + 1
    assert calls(store, "fcall") == called + 2  # one in vain, and settle


def test_many_may_load_the_functions_at_the_same_time(store: Store) -> None:
    rigs = [Rig(store, APP) for _ in range(8)]
    with ThreadPoolExecutor(len(rigs)) as pool:
        for _ in range(10):
            store.function_flush()
            assert [len(it) for it in pool.map(lambda rig: rig.ring(), rigs)] == [0] * len(rigs)


def test_of_all_scripting_the_stores_user_needs_only_to_load_and_call_functions(
    store: Store, store_url: str
) -> None:
    store.execute_command(
        "ACL SETUSER app on >secret ~* &* +@all -@scripting +fcall +function|load"
    )
    store.function_flush()
    rig = Rig(connect(store_url.replace("//", "//app:secret@")), APP)
    key = rig.line_up(1)[0]
    rig.fill()
    rig.ring()

    assert rig.serve(key).value == "END"


def test_an_error_of_a_script_is_told_and_loads_nothing(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(1)
    store.set(rig.keys.prefix + "needs_page", "of another kind")
    loaded = calls(store, "function|load")

    with pytest.raises(LedgerDamaged, match="needs_page is a string, not a set; headgate doctor"):
        rig.ring()

    assert calls(store, "function|load") == loaded


def test_a_store_that_does_not_keep_the_functions_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = store.ask
    monkeypatch.setattr(store, "ask", lambda *it: "OK" if it[1] == "LOAD" else ask(*it))
    store.function_flush()

    with pytest.raises(StoreAway, match="Function not found") as raised:
        Rig(store, APP).line_up(1)

    assert type(raised.value) is FunctionUnknown


def test_releases_that_share_a_store_run_each_its_own_scripts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        shutil.copytree(ROOT / "workers/lua", folder)
        (folder / "start.lua").write_text(f"#!lua\nreturn {number}\n")
        release = scripts.put_together(folder)
        monkeypatch.setattr(scripts, "library", lambda release=release: release)
        runs.append(Scripts(store, ClientKeys("release", "acme"), None))

    assert [run("start") for run in (*runs, *runs)] == [1, 2, 1, 2]


def test_what_a_call_found_of_one_client_is_nothing_to_the_next(store: Store) -> None:
    busy, idle = Rig(store, APP), Rig(store, APP, EP)
    refused, *rung = busy.line_up(4)
    waiting = idle.line_up(4)
    busy.fill()
    idle.fill()

    assert busy.ring() == [refused, *rung]
    assert idle.ring() == waiting
    busy.serve(refused, verdict=HELD)
    assert busy.word(rung[0]).startswith("wait")
    assert [idle.serve(key, verdict=DONE).value for key in waiting] == ["END"] * 4
