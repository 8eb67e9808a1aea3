"""Rows that fail for ever beside good rows, alone, and on a route of their own; refused tokens.

Each run prints its table. The short form is tests/fleet/test_poison.py.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.views.invariants import check_ledger
from tests.support.faults.checks import assert_nothing_left, check_all
from tests.support.faults.outage import rows_of
from tests.support.faults.poison import BAD, Spent, mixed_rows, never, spent, table
from tests.support.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS: Final = 3000
LIMIT: Final = {"name": "app", "count": 100}
NAMES: Final = ("alone", "beside")
#: How long a row may be in doubt before it ends by itself.
PATIENCE_S: Final = 20.0
#: The product's own backoff; calls are over soon.
CLIENT: Final = {"backoff_base_s": 1.0, "outage_patience_s": PATIENCE_S}
#: The part of the rate that is used, by good rows and by poison, of what is used without poison.
USED: Final = 0.9
#: The rate that one refused row leaves to all others, as a part of the rate without it.
LEFT: Final = 0.97


def run(
    rows: list[dict[str, Any]], fault: Mapping[str, Any], wait_s: float = 180
) -> tuple[Spent, Spent]:
    """Two workers, and two clients at once: one has good rows alone, the other one these rows.

    The machine is the same for both at each moment, so that their rates can be compared.
    """
    with Fleet([LIMIT], sandbox={"faults": [fault]}, client=CLIENT, names=NAMES) as fleet:
        alone, beside = (fleet.of(name) for name in NAMES)
        alone.submit(mixed_rows(ROWS, 0))
        beside.submit(rows)
        for name in ("w1", "w2"):
            fleet.start_worker(name)
        for each in (alone, beside):
            each.wait(timeout_s=wait_s)
            broken = [text for texts in check_ledger(each.client).values() for text in texts]
            assert broken == []
            assert_nothing_left(each)
        return spent(alone), spent(beside)


def show(capsys: pytest.CaptureFixture[str], *named: tuple[str, Spent]) -> None:
    """Print the table in any case: it is what the run is for."""
    with capsys.disabled():
        print(f"\n{table(named)}")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_good_rows_lose_at_most_the_quota_that_poison_spends_and_poison_ends_by_its_patience(
    share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = round(ROWS * share)

    alone, beside = run(mixed_rows(ROWS - bad, bad), never("5xx_before"), wait_s=400)

    show(capsys, ("no poison", alone), (f"{share:.0%} poison", beside))
    assert beside.good_states == {"succeeded": ROWS - bad}
    assert beside.bad_states == {"unknown": bad}  # a 503 leaves in doubt what was done
    assert beside.doubled == 0
    assert beside.sent_per_s >= USED * alone.sent_per_s
    # The last send of a row is due by then; with all others it waits for its share of the rate.
    assert beside.bad_lived_s <= PATIENCE_S + 2 + bad / alone.sent_per_s


def test_a_lone_row_is_sent_until_its_patience_ends(capsys: pytest.CaptureFixture[str]) -> None:
    _, beside = run(rows_of("key", 1, BAD), never("5xx_before"))

    show(capsys, ("a lone row", beside))
    assert beside.bad_states == {"unknown": 1}
    # Nothing else says whether the provider or the row is at fault: attempts do not end it.
    assert PATIENCE_S / 2 <= beside.bad_lived_s <= PATIENCE_S + 2


def test_a_route_all_of_whose_rows_fail_waits_beyond_their_patience_and_says_so() -> None:
    with Fleet([LIMIT], client=CLIENT) as fleet:
        broken = rows_of("key", 300, BAD)
        for row in broken:
            row["steps"][0]["path"] = "/broken"
        fleet.sandbox.post("faults", [{"kind": "5xx_before", "match": "POST /broken"}])
        fleet.submit(broken, job="broken")
        fleet.submit(rows_of("key", ROWS))
        for name in ("w1", "w2"):
            fleet.start_worker(name)
        assert fleet.wait(timeout_s=120) == {"succeeded": ROWS}
        time.sleep(PATIENCE_S)  # the provider's clock cannot be held

        ended = fleet.ended("broken")
        status = CliRunner(env=fleet.environment).invoke(main, ["status"]).stdout
        sent = sum(entry["path"] == "/broken" for entry in fleet.requests())
        fleet.sandbox.post("faults", [])

        assert fleet.wait("broken", timeout_s=120) == {"succeeded": 300}
        assert ended == 0
        assert re.search(r"POST /broken.*has been failing since .*next probe (in|now)", status)
        assert sent <= 2 * 32 + 16 + 10
        check_all(fleet, "job", "broken")


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("401", {}),
        ("403", {}),
        ("429", {}),
        ("429", {"retry_after": 1}),
        ("403", {"retry_after": 1}),
    ],
    ids=["401", "403", "429", "429 with Retry-After", "403 as a limit"],
)
def test_one_refused_row_fails_by_its_name_and_the_others_keep_their_rate(
    kind: str, order: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = mixed_rows(ROWS, 1)
    # Its first refusal holds all, as a limit's does: it comes first, and the rate is of the others.
    if order or kind == "429":
        rows.sort(key=lambda row: not row["id"].startswith(BAD))
        rows = [{**row, "line": n} for n, row in enumerate(rows, 1)]

    alone, beside = run(rows, never(kind, **order))

    show(capsys, ("no bad row", alone), (f"one row is answered {kind} {order or ''}", beside))
    assert beside.good_states == {"succeeded": ROWS}
    assert beside.bad_states == {"failed": 1}
    assert beside.good_per_s >= LEFT * alone.good_per_s
    assert beside.doubled == 0
    (error,) = beside.bad_errors
    assert f"the provider answered {kind}" in error


def test_tokens_that_another_system_ends_early_are_renewed_and_somebody_is_told() -> None:
    every_s, times = 4.0, 6
    with Fleet([{"name": "app", "count": 20}], client=CLIENT) as fleet:
        fleet.submit(rows_of("key", 500))
        fleet.start_worker("w1")
        fleet.wait_for(20)
        for _ in range(times):
            time.sleep(every_s)
            fleet.sandbox.post("revoke")

        assert fleet.wait(timeout_s=120) == {"succeeded": 500}

        report = fleet.report()
        assert report["token_requests"]["acme"] <= 1 + times + 1
        assert report["by_status"]["401"] <= times * 32
        assert report["effects"] == 500
        used_s = (report["last_t_us"] - report["first_t_us"]) / 1e6
        assert used_s <= 500 / 18 + 10
        status = CliRunner(env=fleet.environment).invoke(main, ["status"]).stdout
        assert re.search(r"another system|same credentials", status + fleet.log("w1"))
        check_all(fleet)
