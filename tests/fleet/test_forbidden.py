"""An operation that the client may not do, on real workers: it is held, and others go on."""

from __future__ import annotations

from collections import Counter

from click.testing import CliRunner

from orchestration.cli import main
from tests.support.fleet import Fleet, calls, until
from workers.ledger.transaction import TransactionState


def test_what_is_not_permitted_is_held_with_its_reason_and_everything_else_goes_on() -> None:
    with Fleet(sandbox={"faults": [{"match": "POST */secret", "kind": "403"}]}) as fleet:
        hidden = calls(60, prefix="h")
        for row in hidden:
            row["steps"][0]["path"] = "/secret"
        fleet.submit(hidden, job="hidden")
        fleet.start_worker("w1")
        until(lambda: fleet.report()["by_status"].get("403"), what="the first refusal")
        fleet.submit(calls(60))

        assert fleet.wait() == {"succeeded": 60}

        assert fleet.ended("hidden") == 0
        sent = sum(it["path"] == "/secret" for it in fleet.requests())
        assert sent < 60  # those that were out when the first answer came
        status = CliRunner(env=fleet.environment).invoke(main, ["status"]).stdout
        assert "POST /secret" in status
        assert "grant the OAuth client outbound:contact:add" in status
        states = Counter(it.state for it in fleet.transactions("hidden").values() if it)
        assert states[TransactionState.WAITING] == 60
