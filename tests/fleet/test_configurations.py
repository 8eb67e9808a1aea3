"""Worker processes with different configurations: the safer limits hold, whoever starts last."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.views.workers import workers_of
from tests.support.faults.checks import check_all
from tests.support.fleet import SECRET, Fleet, calls, until
from workers.governor.registry import Registry
from workers.ledger import audit
from workers.settings.limits import bucket_of

if TYPE_CHECKING:
    from pathlib import Path

LOW, HIGH = 100, 400


def file_with(fleet: Fleet, count: int) -> dict[str, str]:
    """The environment of a worker whose file states another count."""
    path: Path = fleet.folder / f"limit-{count}.toml"
    path.write_text(fleet.config.read_text().replace(f"count = {LOW}", f"count = {count}"))
    return {"HEADGATE_CONFIG": str(path)}


def rate(fleet: Fleet) -> float:
    """Calls per second that hold now."""
    (limit,) = fleet.client.look()[1].limits
    return bucket_of(limit).rate or 0.0


def lives(fleet: Fleet) -> list[str]:
    """The names of the live processes."""
    registry = Registry(fleet.client.store, fleet.clients.settings.store.namespace)
    return sorted(process.name for process in registry.look().live.values())


def changes(fleet: Fleet) -> list[audit.Entry]:
    """The audited changes of the limits that hold, the oldest first."""
    entries = audit.read(fleet.client.store, fleet.client.keys)
    return [entry for entry in reversed(entries) if entry.action == "limits agreed"]


@pytest.mark.parametrize("counts", [(LOW, HIGH), (HIGH, LOW)], ids=["raised", "lowered"])
def test_the_lower_limit_holds_while_both_live_whoever_starts_last(counts: tuple[int, int]) -> None:
    with Fleet(limits=[{"name": "app", "count": LOW}]) as fleet:
        for name, count in zip(("w1", "w2"), counts, strict=True):
            fleet.start_worker(name, env=file_with(fleet, count))
            until(lambda name=name: name in lives(fleet), what=f"the heartbeat of {name}")
        until(lambda: rate(fleet) == pytest.approx(0.9 * LOW, rel=0.01), what="the lower limit")
        fleet.submit(calls(400))

        assert fleet.wait() == {"succeeded": 400}

        assert rate(fleet) == pytest.approx(0.9 * LOW, rel=0.01)
        assert fleet.report()["by_status"].get("429", 0) == 0
        check_all(fleet)


def test_a_limit_holds_alone_when_the_last_process_of_the_other_has_gone() -> None:
    with Fleet(limits=[{"name": "app", "count": LOW}]) as fleet:
        fleet.start_worker("w1")
        until(lambda: lives(fleet) == ["w1"], what="w1")
        fleet.start_worker("w2", env=file_with(fleet, HIGH))
        until(lambda: lives(fleet) == ["w1", "w2"], what="w2")

        fleet.stop_worker("w1")

        until(lambda: rate(fleet) == pytest.approx(0.9 * HIGH, rel=0.01), what="the other limit")
        assert lives(fleet) == ["w2"]
        (entry,) = changes(fleet)
        assert "app 89.993/s" in entry.before
        assert "app 359.97/s" in entry.after
        assert entry.by.startswith("worker w2@")


def test_a_worker_that_is_killed_and_started_again_keeps_its_limit_and_its_entry() -> None:
    with Fleet(limits=[{"name": "app", "count": LOW}]) as fleet:
        fleet.start_worker("w1")
        until(lambda: lives(fleet) == ["w1"], what="w1")
        fleet.start_worker("w2", env=file_with(fleet, HIGH))
        until(lambda: lives(fleet) == ["w1", "w2"], what="w2")
        fleet.submit(calls(300))
        fleet.wait_for(50)

        fleet.kill_worker("w1", signal.SIGKILL)

        assert fleet.wait() == {"succeeded": 300}
        assert lives(fleet) == ["w1", "w2"]
        assert changes(fleet) == []
        assert fleet.report()["by_status"].get("429", 0) == 0
        check_all(fleet)


def test_two_workers_of_one_name_are_two() -> None:
    with Fleet() as fleet:
        fleet.start_worker("w1", 4)
        first = fleet.workers.pop("w1")
        fleet.workers["first"] = first
        fleet.start_worker("w1", 4)

        until(lambda: lives(fleet) == ["w1", "w1"], what="two of one name")


def sick(fleet: Fleet, cause: str) -> dict[str, str]:
    """The environment of a worker that can make no call, while others can."""
    if cause == "no CA file":
        path = fleet.folder / "sick.toml"
        own = '[clients.acme]\nca_file = "/nonexistent/ca.pem"'
        path.write_text(fleet.config.read_text().replace("[clients.acme]", own))
        return {"HEADGATE_CONFIG": str(path)}
    if cause == "dead proxy":
        return {"http_proxy": "http://127.0.0.1:9"}
    return {"ACME_SECRET": "stale-secret" if cause == "stale secret" else ""}


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("stale secret", "the token endpoint refuses the client id or secret"),
        ("no secret", "ACME_SECRET"),
        ("no CA file", "/nonexistent/ca.pem cannot be read"),
        ("dead proxy", "through the proxy 127.0.0.1:9 (connection refused)"),
    ],
)
def test_a_worker_that_cannot_send_leaves_the_rows_to_the_others_and_is_named(
    cause: str, words: str
) -> None:
    with Fleet(limits=[{"name": "app", "count": LOW}]) as fleet:
        fleet.start_worker("w1")
        fleet.submit(calls(1), "first")
        assert fleet.wait("first") == {"succeeded": 1}
        fleet.start_worker("w2", env=sick(fleet, cause))
        until(lambda: "w2" in lives(fleet), what="w2")
        fleet.submit(calls(300, prefix="b"), "beside")

        assert fleet.wait("beside") == {"succeeded": 300}

        # Nothing was held for the others, and what it put back was not granted.
        keys = fleet.client.keys
        assert fleet.client.store.hget(keys.governor, "y:client") is None
        asked = [one for one in fleet.requests() if one["path"] == "/oauth/token"]
        assert len(fleet.requests()) - len(asked) == 301
        until(lambda: [process.name for process in workers_of(fleet.client).serving] == ["w1"])
        (problem,) = workers_of(fleet.client).problems
        assert problem.startswith("worker w2@")
        assert "makes no calls of client acme" in problem
        assert words in problem
        assert fleet.log("w2").count("this worker makes no calls of client acme") == 1
        check_all(fleet, "first", "beside")


def test_a_worker_whose_secret_is_put_right_makes_calls_again() -> None:
    with Fleet() as fleet:
        secret = fleet.folder / "secret"
        secret.write_text("stale-secret")
        text = fleet.config.read_text()
        own = text.replace('client_secret_env = "ACME_SECRET"', f'client_secret_file = "{secret}"')
        assert own != text
        path = fleet.folder / "own.toml"
        path.write_text(own)
        fleet.start_worker("w1", env={"HEADGATE_CONFIG": str(path)})
        fleet.submit(calls(20))
        until(lambda: "makes no calls of client acme" in fleet.log("w1"), what="the obstacle")
        assert fleet.ended() == 0

        secret.write_text(SECRET)

        assert fleet.wait() == {"succeeded": 20}
        assert "makes calls of client acme again" in fleet.log("w1")
        until(lambda: not workers_of(fleet.client).problems, what="no problem")


def test_a_client_of_another_account_waits_until_it_is_bound_anew_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Fleet(names=("acme", "other")) as fleet:
        acme, other = fleet.of("acme"), fleet.of("other")
        acme.client.require_bound()
        rotated = fleet.folder / "rotated.toml"
        text = fleet.config.read_text()
        rotated.write_text(text.replace("[clients.acme]", '[clients.acme]\nkey_scope = "step"'))
        for of_client in (acme, other):
            of_client.submit(calls(20, prefix=of_client.client.name))
        fleet.start_worker("w1", env={"HEADGATE_CONFIG": str(rotated)})

        assert other.wait() == {"succeeded": 20}
        assert acme.ended() == 0
        assert "bound to another account (key_scope transaction, not step)" in fleet.log("w1")

        monkeypatch.setenv("HEADGATE_CONFIG", str(rotated))
        why = ("--reason", "rotated", "--by", "maria")
        result = CliRunner().invoke(main, ["client", "rebind", "acme", *why])
        assert result.exit_code == 0, result.output
        assert acme.wait() == {"succeeded": 20}
        effects = [effect["business_id"] for effect in fleet.effects()]
        assert len(effects) == len(set(effects)) == 40
