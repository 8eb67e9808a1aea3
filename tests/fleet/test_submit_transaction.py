"""One transaction from Python: checked as a line of a file, sent once, seen by every command."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.transactions import SubmittedTransaction, submit_transaction
from tests.support.fleet import Fleet, toml
from workers import clients
from workers.errors import ConfigError, InputError, NotNow, StoreUnfit, UsageError
from workers.ledger.ledger import Ledger
from workers.store.connection import Pipeline, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.ledger.job import Job

STEPS = [
    {"name": "create", "method": "POST", "path": "/lists", "body": {"business_id": "l1"}},
    {"name": "start", "method": "POST", "path": "/lists/{create.id}/start"},
]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    clients._clients.cache_clear()
    with Fleet() as it:
        yield it


def submit(fleet: Fleet, steps: Any = None, **given: Any) -> SubmittedTransaction:
    given = {"id": "order-1", **given}
    return submit_transaction("acme", steps or STEPS, config=str(fleet.config), **given)


def jobs(fleet: Fleet) -> int:
    return int(fleet.client.store.zcard(fleet.client.keys.jobs))


def run(fleet: Fleet, *command: str) -> str:
    result = CliRunner().invoke(main, [*command, "--config", str(fleet.config)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_transaction_runs_all_its_steps_under_its_key(fleet: Fleet) -> None:
    made = submit(fleet, lane="urgent")
    assert made.state().state == "waiting"
    assert made.wait(timeout_s=0).state == "waiting"
    fleet.start_worker("w1")

    line = made.wait(timeout_s=30)

    assert (line.state, line.status, line.error) == ("succeeded", 201, None)
    assert (line.id, line.key) == ("order-1", made.key)
    assert line.provider_id
    created, started = fleet.requests()[-2:]
    assert {created["key"], started["key"]} == {made.key}
    assert started["path"].endswith("/start")


def test_a_lane_may_be_a_number_and_the_tenant_may_be_none(fleet: Fleet) -> None:
    made = submit(fleet, lane=9, tenant=None)

    params = fleet.client.ledger.job_params(made.job)
    assert (params.lane, params.tenant) == (2, "-")


def test_each_part_of_a_step_is_counted_as_a_call(fleet: Fleet) -> None:
    step = {"name": "add", "method": "POST", "path": "/x", "body": "{part.n}"}

    made = submit(fleet, [{**step, "parts": [{"n": n} for n in range(3)]}, {**STEPS[0]}])

    assert fleet.client.ledger.job(made.job).calls == 4


def test_a_failure_tells_status_and_reason(fleet: Fleet) -> None:
    fleet.sandbox.post("faults", [{"kind": "400"}])
    fleet.start_worker("w1")

    line = submit(fleet).wait(timeout_s=30)

    assert (line.state, line.status) == ("failed", 400)
    assert line.error


def test_a_second_submit_joins_the_first_in_any_process(fleet: Fleet) -> None:
    first = submit(fleet)
    clients._clients.cache_clear()  # what another process knows
    second = submit(fleet, json.loads(json.dumps(STEPS)), lane="bulk")

    assert (second.key, second.job) == (first.key, first.job)
    assert (first.new, second.new) == (True, False)
    assert jobs(fleet) == 1
    assert submit(fleet, id="order-2").key != first.key


def test_other_steps_under_the_same_id_are_refused(fleet: Fleet) -> None:
    first = submit(fleet)

    with pytest.raises(InputError, match=f"order-1: .*other steps, as {first.job}"):
        submit(fleet, STEPS[:1])

    assert fleet.client.ledger.job(first.job).rows == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"steps": [{"name": "a", "method": "POST", "path": "orders"}]},
            'path must begin with "/"',
        ),
        ({"steps": [{**STEPS[0], "path": "/{b.id}"}]}, "no earlier step"),
        ({"steps": [{"method": "POST", "path": "/orders"}]}, "step 1, name"),
        ({"steps": [{**STEPS[0], "gard": "key"}]}, "gard: unknown field"),
        ({"steps": [{**STEPS[0], "body": float("nan")}]}, "NaN"),
        ({"steps": [{**STEPS[0], "body": {1, 2}}]}, "cannot be written as JSON"),
        ({"steps": [{**STEPS[0], "body": "\ud800"}]}, "cannot be written as JSON"),
        ({"steps": [{**STEPS[0], "body": "x" * 512_001}]}, "longer than 512000 bytes"),
        ({"steps": [STEPS[0]] * 21}, "1 to 20 steps"),
        ({"steps": STEPS[0]}, "must be a list"),
        ({"id": "order 1"}, "id: must be text"),
        ({"id": 7}, "id: must be text"),
        ({"lane": "fast"}, "lane 'fast'"),
        ({"tenant": "no tenant"}, "tenant 'no tenant'"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    fleet: Fleet, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as told:
        submit(fleet, **given)

    assert said in str(told.value)
    assert jobs(fleet) == 0


def test_an_unknown_client_is_told(fleet: Fleet) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        submit_transaction("nobody", STEPS, id="order-1", config=str(fleet.config))


def test_a_weak_guard_is_refused_where_the_store_forgets() -> None:
    clients._clients.cache_clear()
    with Fleet(fsync="everysec") as fleet:
        assert submit(fleet).new
        with pytest.raises(InputError, match="order-2: guard none, while the store may lose"):
            submit(fleet, [{**STEPS[0], "guard": "none"}], id="order-2")
        assert jobs(fleet) == 1


def test_a_tenant_with_credentials_of_its_own_sends_through_these() -> None:
    clients._clients.cache_clear()
    with Fleet(client={"tenants": {"emea": {"weight": 2}}}) as fleet:
        made = submit(fleet, tenant="emea")
        assert fleet.client.ledger.job_params(made.job).tenant == "emea"
        own = {
            "base_url": fleet.sandbox.url,
            "token_url": f"{fleet.sandbox.url}/oauth/token",
            "client_id": "acme",
            "client_secret_env": "ACME_SECRET",
            "idempotency": "key",
        }
        text = fleet.config.read_text().replace("weight = 2", 'client = "emea"')
        fleet.config.write_text(f"{text}\n[clients.emea]\n{toml(own)}")
        clients._clients.cache_clear()

        made = submit(fleet, tenant="emea")

        assert made._client.name == "emea"
        assert made._client.ledger.job_params(made.job).tenant == "-"


def test_a_store_without_room_takes_none(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("orchestration.intake.accept")
    monkeypatch.setattr(module, "room", lambda _: (0, 1_000_000))

    with pytest.raises(StoreUnfit, match="of the store's memory"):
        submit(fleet)

    assert jobs(fleet) == 0


@pytest.mark.parametrize("moment", ["accept", "start"])
def test_a_submit_that_died_half_way_has_sent_nothing_and_is_completed_by_the_next(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def die(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, moment, die)
        with pytest.raises(KeyboardInterrupt):
            submit(fleet)
    fleet.start_worker("w1")

    made = submit(fleet)

    assert made.new
    assert made.wait(timeout_s=30).state == "succeeded"
    assert len(fleet.effects()) == 2


def test_a_store_that_loses_the_job_meanwhile_is_told(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Ledger.begin

    def and_lose(ledger: Ledger, job: Job) -> Job:
        found = begin(ledger, job)
        fleet.client.store.flushdb()
        return found

    monkeypatch.setattr(Ledger, "begin", and_lose)
    with pytest.raises(NotNow, match="it was emptied or replaced"):
        submit(fleet)


def test_the_commands_know_it(fleet: Fleet) -> None:
    fleet.start_worker("w1")
    made = submit(fleet)
    made.wait(timeout_s=30)

    assert made.job in run(fleet, "jobs")
    assert "1 succeeded" in run(fleet, "watch", made.job)
    assert f"1,order-1,succeeded,{made.key}" in run(fleet, "report", made.job)
    assert run(fleet, "doctor") is not None


def test_it_costs_six_round_trips_and_one_when_it_was_submitted_before(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(fleet)
    trips = []

    def counted(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def call(self: Any, *args: Any, **options: Any) -> Any:
            trips.append(args)
            return real(self, *args, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((Store, "ask"), (Store, "execute_command"), (Pipeline, "execute")):
        counted(owner, name)

    submit(fleet, id="order-2")
    first = len(trips)
    trips.clear()
    submit(fleet, id="order-2")

    assert (first, len(trips)) == (6, 1)
