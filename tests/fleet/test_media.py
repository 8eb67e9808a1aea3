"""Media files to prompts and assets on real workers; the sandbox's journal is the oracle."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.operate import limits as operate_limits
from orchestration.views.status import status
from tests.support.fleet import Fleet, until
from tests.support.media import (
    CLIENT,
    GENESYS,
    arrived,
    check_media,
    folder,
    md5s,
    submit,
    transfers,
)
from workers.ledger.transaction import FINAL, TransactionState
from workers.store.connection import to_us

if TYPE_CHECKING:
    from pathlib import Path

FAULTS = [
    {
        "match": match,
        "kind": kind,
        "when": {"every": every},
        "per_business_id_times": 1,
        "hang_s": 3,
    }
    for match, kind, every in (
        ("POST /api/*", "drop_after", 5),
        ("POST /api/*", "5xx_after", 7),
        ("GET /api/*", "5xx_before", 9),
        ("PUT /transfers/*", "drop_after", 4),
        ("PUT /transfers/*", "5xx_before", 5),
        ("PUT /transfers/*", "5xx_after", 6),
        ("PUT /transfers/*", "hang", 11),
    )
]


def a_fleet(
    sandbox: dict[str, Any] | None = None, client: dict[str, Any] | None = None, **more: Any
) -> Fleet:
    return Fleet(
        sandbox={**GENESYS, **(sandbox or {})}, client={**CLIENT, **(client or {})}, **more
    )


def are_sent(fleet: Fleet, job: str) -> bool:
    """Whether the transfers of all files are out: rung alone, a dead worker leaves no lease."""
    files = [*fleet.transactions(job).values()]
    sent = [it for it in files if it and it.state == TransactionState.SENT]
    return len(sent) == len(files) == status(fleet.client).media.out


def workers(fleet: Fleet, **env: str) -> None:
    fleet.start_worker("w1", 8)
    fleet.start_worker("m1", 4, pool="media", env=env)


@pytest.mark.parametrize("kind", ["prompts", "assets"])
def test_every_file_arrives_once_and_whole_whatever_fails_on_the_way(
    tmp_path: Path, kind: str
) -> None:
    files = folder(tmp_path / "in", 40)
    patient = {"max_retries": 4}  # a file may meet each fault of a transfer, one after the other
    with a_fleet({"faults": FAULTS, "transcode_s": 0.2}, patient) as fleet:
        job = submit(fleet, files, kind)
        workers(fleet)
        fleet.start_worker("m2", 2, pool="media")

        assert fleet.wait(job) == {"succeeded": 40}

        assert arrived(fleet) == md5s(files)
        check_media(fleet, job)
        kinds = Counter(it.get("fault") for it in transfers(fleet))
        assert min(kinds[it] for it in ("drop_after", "5xx_before", "5xx_after")) > 0


def test_languages_of_one_prompt_make_it_once_and_audio_that_is_there_is_replaced(
    tmp_path: Path,
) -> None:
    files = folder(tmp_path / "in", 6)
    lines = [
        {"path": f"in/f{n:03}.wav", "name": f"p{n % 2}", "language": language}
        for n, language in enumerate(["de-de", "de-de", "en-us", "en-us", "fr-fr", "fr-fr"])
    ]
    manifest = tmp_path / "all.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    with a_fleet({"duplicate_names": "refused"}) as fleet:
        workers(fleet)
        first = submit(fleet, manifest)
        assert fleet.wait(first) == {"succeeded": 6}
        made = [it for it in fleet.effects() if it["path"].endswith("/prompts")]
        assert arrived(fleet) == md5s(files)

        (files / "f004.wav").write_bytes(b"another one")
        second = submit(fleet, manifest)
        assert second != first
        assert fleet.wait(second) == {"succeeded": 6}

        again = [it for it in fleet.effects() if it["path"].endswith("/prompts")]
        assert len(made) == len(again) == 2
        assert sum(arrived(fleet).values()) == 7


def test_languages_wait_for_their_prompt_without_asking_and_all_are_woken_after_a_kill(
    tmp_path: Path,
) -> None:
    folder(tmp_path / "in", 5)
    lines = [
        {"path": f"in/f{n:03}.wav", "name": "p", "language": language}
        for n, language in enumerate(["de-de", "en-us", "fr-fr", "it-it", "nl-nl"])
    ]
    manifest = tmp_path / "all.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    with a_fleet() as fleet:
        said = {"by": "maria", "reason": "maintenance at the provider"}
        operate_limits.pause(fleet.client, for_s=3600, **said)
        job = submit(fleet, manifest)
        workers(fleet)

        until(lambda: waits_long(fleet) == 4, what="four languages that were looked at once")
        fleet.kill_worker("w1")
        fleet.start_worker("w2", 8)
        operate_limits.resume(fleet.client, **said)

        assert fleet.wait(job) == {"succeeded": 5}
        check_media(fleet, job)


def waits_long(fleet: Fleet) -> int:
    """How many rows are in a backlog, and not due for many minutes."""
    store, keys = fleet.client.store, fleet.client.keys
    after_us = to_us(store.time()) + 600 * 1_000_000
    flows: Any = store.hkeys(keys.flows)
    return sum(int(store.zcount(f"{keys.backlog(it)}:due", after_us, "+inf")) for it in flows)  # type: ignore[call-overload]


def test_without_a_media_worker_transfers_wait_and_status_says_what_is_missing(
    tmp_path: Path,
) -> None:
    with a_fleet() as fleet:
        job = submit(fleet, folder(tmp_path / "in", 3))
        fleet.start_worker("w1", 4)
        until(lambda: status(fleet.client).media.waiting == 3, what="three transfers in the line")

        assert status(fleet.client).advice == (
            "3 transfers wait and no media worker runs; start one with "
            "`headgate worker --for media`"
        )
        fleet.start_worker("m1", 2, pool="media")
        assert fleet.wait(job) == {"succeeded": 3}
        assert status(fleet.client).media.threads == 2
        assert status(fleet.client).threads == 4


def test_transfers_of_a_media_worker_that_is_gone_wait_and_status_asks_for_another_one(
    tmp_path: Path,
) -> None:
    hang = {"match": "PUT /transfers/*", "kind": "hang", "hang_s": 60}
    with a_fleet({"faults": [hang]}, {"max_retries": 10}) as fleet:
        job = submit(fleet, folder(tmp_path / "in", 2))
        workers(fleet)
        until(lambda: are_sent(fleet, job), what="two transfers under way")
        fleet.stop_worker("m1", signal.SIGKILL)
        until(lambda: status(fleet.client).quarantine, what="a lease to be over")
        wait = "2 transfers wait and no media worker runs"  # once the dead one is forgotten
        until(lambda: (status(fleet.client).advice or "").startswith(wait), what="advice")
        assert status(fleet.client).quarantine

        fleet.sandbox.post("config", {"faults": []})
        fleet.start_worker("m2", 2, pool="media")
        assert fleet.wait(job) == {"succeeded": 2}


def test_an_expired_url_is_asked_for_anew(tmp_path: Path) -> None:
    files = folder(tmp_path / "in", 6)
    with a_fleet() as fleet:
        jobs = [submit(fleet, files, kind) for kind in ("prompts", "assets")]
        fleet.start_worker("w1", 4)
        until(lambda: status(fleet.client).media.waiting == 12, what="all URLs")
        fleet.sandbox.post("expire", {})
        fleet.start_worker("m1", 2, pool="media")

        assert [fleet.wait(job) for job in jobs] == [{"succeeded": 6}] * 2

        assert Counter(it["status"] for it in transfers(fleet)) == {403: 12, 200: 12}
        check_media(fleet, *jobs)


def test_urls_that_are_never_good_end_as_a_failure_that_tells_no_url(tmp_path: Path) -> None:
    with a_fleet({"url_lifetime_s": 0.0}) as fleet:
        job = submit(fleet, folder(tmp_path / "in", 1))
        workers(fleet)

        assert fleet.wait(job) == {"failed": 1}

        (tx,) = fleet.transactions(job).values()
        assert "answered 403 AccessDenied: the signed URL has expired" in tx.error
        assert "signature" not in tx.error
        assert "signature=" not in fleet.log("m1")
        assert len(transfers(fleet)) == 1 + 3


@pytest.mark.parametrize("kind", ["prompts", "assets"])
def test_a_media_worker_that_is_killed_in_the_middle_of_a_file_doubles_nothing(
    tmp_path: Path, kind: str
) -> None:
    files = folder(tmp_path / "in", 8, size=3_000_000)
    once = tmp_path / "died"
    env = {"HEADGATE_FAILPOINT": "half_sent:kill:3", "HEADGATE_FAILPOINT_ONCE": str(once)}
    with a_fleet() as fleet:
        job = submit(fleet, files, kind)
        workers(fleet, **env)

        assert fleet.wait(job) == {"succeeded": 8}

        assert once.exists()
        assert arrived(fleet) == md5s(files)
        check_media(fleet, job)


@pytest.mark.parametrize("failpoint", ["admitted", "answer_read", "settled", "popped"])
def test_a_media_worker_killed_around_a_transfer_doubles_nothing(
    tmp_path: Path, failpoint: str
) -> None:
    files, once = folder(tmp_path / "in", 8), tmp_path / "died"
    env = {"HEADGATE_FAILPOINT": f"{failpoint}:kill:3", "HEADGATE_FAILPOINT_ONCE": str(once)}
    with a_fleet() as fleet:
        jobs = [submit(fleet, files, kind) for kind in ("prompts", "assets")]
        workers(fleet, **env)

        assert [fleet.wait(job) for job in jobs] == [{"succeeded": 8}] * 2

        assert once.exists()
        check_media(fleet, *jobs)


@pytest.mark.parametrize("kind", ["prompts", "assets"])
def test_a_file_that_cannot_be_transcoded_fails_and_is_named(tmp_path: Path, kind: str) -> None:
    files = folder(tmp_path / "in", 3)
    (files / "f001.wav").rename(files / "transcode-fails.wav")
    with a_fleet() as fleet:
        job = submit(fleet, files, kind)
        workers(fleet)

        assert fleet.wait(job) == {"succeeded": 2, "failed": 1}

        (failed,) = [it for it in fleet.transactions(job).values() if it.state == "failed"]
        assert str(files / "transcode-fails.wav") in failed.error


def test_a_file_that_is_missing_or_has_changed_fails_with_a_sentence_and_arrives_nowhere(
    tmp_path: Path,
) -> None:
    files = folder(tmp_path / "in", 4)
    with a_fleet() as fleet:
        job = submit(fleet, files)
        (files / "f000.wav").unlink()
        (files / "f001.wav").write_bytes(b"short")
        same_size = (files / "f002.wav").stat().st_size
        (files / "f002.wav").write_bytes(b"x" * same_size)
        workers(fleet)

        assert fleet.wait(job) == {"succeeded": 1, "failed": 3}

        said = {row: it.error or "" for row, it in fleet.transactions(job).items()}
        assert "f000.wav cannot be read on host" in said["f000:en-us"]
        assert "no such file or directory" in said["f000:en-us"]
        for row in ("f001:en-us", "f002:en-us"):
            assert "has changed since it was submitted; submit it again" in said[row]
        assert sum(arrived(fleet).values()) == 1


def test_a_file_that_was_missing_is_sent_when_it_is_there_and_replayed(tmp_path: Path) -> None:
    files = folder(tmp_path / "in", 2)
    wanted = md5s(files)
    with a_fleet() as fleet:
        job = submit(fleet, files)
        (files / "f000.wav").rename(tmp_path / "aside")
        workers(fleet)
        assert fleet.wait(job) == {"succeeded": 1, "failed": 1}

        (tmp_path / "aside").rename(files / "f000.wav")
        fleet.sandbox.post("expire", {})
        dead = [it.key for it in fleet.transactions(job).values() if it.state == "failed"]
        reason = ["--reason", "it is there", "--config", str(fleet.config)]
        assert CliRunner().invoke(main, ["dead", "replay", *dead, *reason]).exit_code == 0

        assert fleet.wait(job) == {"succeeded": 2}
        assert arrived(fleet) == wanted
        check_media(fleet, job)


def test_an_asset_that_arrived_without_an_answer_is_not_made_again_when_its_url_has_expired(
    tmp_path: Path,
) -> None:
    faults = [{"match": "PUT /transfers/*", "kind": "drop_after", "times": 1}]
    slow = {**CLIENT, "backoff_base_s": 2.0}
    sandbox = {**GENESYS, "faults": faults}
    with Fleet(sandbox=sandbox, client=slow) as fleet:
        job = submit(fleet, folder(tmp_path / "in", 1), "assets")
        workers(fleet)
        until(lambda: transfers(fleet), what="the file that gets no answer")
        fleet.sandbox.post("expire", {})

        assert fleet.wait(job) == {"succeeded": 1}

        assert [it["status"] for it in transfers(fleet)][1:] == [403]
        check_media(fleet, job)


def test_workers_of_other_machines_find_the_same_files_below_their_own_root(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    files = folder(here / "in", 3)
    with a_fleet(worker={"media_root": str(here)}) as fleet:
        job = submit(fleet, files)
        here.rename(tmp_path / "gone")
        (tmp_path / "gone" / "in").rename(there / "in")
        fleet.start_worker("w1", 4)
        env = {"HEADGATE_WORKER__MEDIA_ROOT": str(there)}
        fleet.start_worker("m1", 2, pool="media", env=env)

        assert fleet.wait(job) == {"succeeded": 3}


def test_a_worker_with_a_root_of_media_reads_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with a_fleet() as fleet:
        job = submit(fleet, folder(tmp_path / "in", 1))
        fleet.start_worker("w1", 4)
        env = {"HEADGATE_WORKER__MEDIA_ROOT": str(tmp_path / "root")}
        fleet.start_worker("m1", 2, pool="media", env=env)

        assert fleet.wait(job) == {"failed": 1}

        (tx,) = fleet.transactions(job).values()
        assert "does not lie below worker.media_root of host" in tx.error
        assert not transfers(fleet)


def test_headers_that_are_not_those_of_the_url_are_refused_and_nothing_arrives(
    tmp_path: Path,
) -> None:
    with a_fleet() as fleet:
        job = submit(fleet, folder(tmp_path / "in", 1))
        fleet.start_worker("w1", 4)
        until(lambda: status(fleet.client).media.waiting == 1)
        (tx,) = fleet.transactions(job).values()
        *before, url = tx.answer_lines
        told = json.loads(url)
        told["headers"]["Content-Type"] = "audio/wav"
        name = fleet.client.keys.transaction(tx.key)
        fleet.client.store.hset(name, "an", "\n".join([*before, json.dumps(told)]))
        fleet.start_worker("m1", 2, pool="media")

        assert fleet.wait(job) == {"succeeded": 1}  # with the URL that it asks for then

        assert [it["status"] for it in transfers(fleet)] == [403, 200]


def test_no_transfer_carries_what_belongs_to_the_api_and_media_workers_ask_for_no_token(
    tmp_path: Path,
) -> None:
    with a_fleet() as fleet:
        job = submit(fleet, folder(tmp_path / "in", 5), "assets")
        fleet.start_worker("m1", 2, pool="media")
        until(lambda: status(fleet.client).media.workers == 1)
        assert not [it for it in fleet.requests() if it["kind"] == "token"]
        fleet.start_worker("w1", 4)

        assert fleet.wait(job) == {"succeeded": 5}

        assert fleet.report()["transfers"]["leaks"] == 0
        assert not [it for it in transfers(fleet) if it.get("key")]
        assert "signature=" not in fleet.log("m1") + fleet.log("w1")


def test_a_name_that_is_taken_makes_no_second_asset(tmp_path: Path) -> None:
    files = folder(tmp_path / "in", 2)
    with a_fleet() as fleet:
        workers(fleet)
        assert fleet.wait(submit(fleet, files, "assets")) == {"succeeded": 2}
        (files / "f000.wav").write_bytes(b"new")

        job = submit(fleet, files, "assets")
        assert fleet.wait(job) == {"failed": 2}

        assert all("is there already" in it.error for it in fleet.transactions(job).values())
        check_media(fleet, job)


def test_a_media_worker_that_is_stopped_ends_what_it_sends(tmp_path: Path) -> None:
    with a_fleet() as fleet:
        job = submit(fleet, folder(tmp_path / "in", 12, size=3_000_000))
        workers(fleet)
        until(lambda: transfers(fleet), what="a file")
        fleet.stop_worker("m1", signal.SIGTERM)
        states = Counter(it.state for it in fleet.transactions(job).values())
        assert not [it for it in transfers(fleet) if it["status"] == 0]
        assert all(state.is_open or state in FINAL for state in states)
        fleet.start_worker("m2", 4, pool="media")

        assert fleet.wait(job) == {"succeeded": 12}
