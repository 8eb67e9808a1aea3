"""API keys: one that is refused holds the client, one that is rotated is taken up by the fleet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestration.views.status import status
from tests.support.fleet import Fleet, calls, until

if TYPE_CHECKING:
    from pathlib import Path


def with_key(fleet: Fleet, key: str) -> Path:
    """Give the fleet's client an API key in a file, in place of its OAuth credentials."""
    file = fleet.folder / "api_key"
    file.write_text(key)
    text = re.sub(r"(token_url|client_id|client_secret_env) = .*\n", "", fleet.config.read_text())
    form = f'auth = "api_key"\napi_key_header = "X-Api-Key"\nclient_secret_file = "{file}"\n'
    fleet.config.write_text(text.replace("[clients.acme]\n", f"[clients.acme]\n{form}"))
    return file


def sandbox_with(*keys: str) -> dict[str, Any]:
    return {"api_keys": dict.fromkeys(keys, "acme")}


def test_a_key_that_is_refused_holds_the_client_says_where_it_stands_and_spends_nothing() -> None:
    with Fleet(sandbox=sandbox_with("right")) as fleet:
        with_key(fleet, "canary-wrong")
        fleet.submit(calls(20))
        fleet.start_worker("w1", concurrency=4)
        until(lambda: "has been failing" in fleet.log("w1"), what="a hold of the client")

        said = (
            "the provider answered 401 (bad.credentials) to the API key of client_secret_file; "
            "put a valid one there"
        )
        assert said in fleet.log("w1")
        assert said in str(status(fleet.client).failures)
        assert fleet.ended() == 0
        assert all(not it or it.attempts == 0 for it in fleet.transactions().values())
        assert fleet.report()["requests"] <= 10  # 4 rows, those that were out then, and 2 probes
        assert "canary" not in fleet.log("w1")


def test_a_key_that_is_rotated_under_load_is_taken_up_without_a_restart_or_a_lost_row() -> None:
    with Fleet(sandbox=sandbox_with("one", "two")) as fleet:
        file = with_key(fleet, "one")
        fleet.submit(calls(300))
        fleet.start_worker("w1", concurrency=8)
        fleet.wait_for(50)

        file.write_text("two\n")
        fleet.sandbox.post("config", sandbox_with("two"))

        assert fleet.wait() == {"succeeded": 300}
        assert fleet.report()["duplicates"] == 0
