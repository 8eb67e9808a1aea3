"""Guard `lookup` where the provider honours no key: asked before a second send. Real workers."""

from __future__ import annotations

import pytest

from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from tests.support.killing import LOOKS, SLOW, killed_at, lost


def sends(fleet: Fleet) -> int:
    """How often something was sent that has an effect."""
    return sum(it["method"] == "POST" and it["kind"] != "token" for it in fleet.requests())


def test_lost_answers_are_asked_for_and_lose_and_double_nothing() -> None:
    faults = [
        lost("drop_after", 5),
        lost("5xx_after", 4),
        lost("hang", 9, hang_s=3),
        lost("drop_before", 6),
        lost("5xx_before", 7),
    ]
    with Fleet(sandbox={**SLOW, "faults": faults}, client=LOOKS) as fleet:
        fleet.submit(calls(60, steps=3, guard="lookup"))
        fleet.start_worker("w1")
        fleet.start_worker("w2")

        assert fleet.wait() == {"succeeded": 60}

        requests = fleet.requests()
        looks = [it for it in requests if it["method"] == "GET"]
        assert len(looks) > 50
        assert all("key" not in it for it in looks)  # what a key means is the provider's affair
        hits = {kind: sum(it.get("fault") == kind for it in requests) for kind in
                ("drop_after", "5xx_after", "hang", "drop_before", "5xx_before")}  # fmt: skip
        assert min(hits.values()) >= 3, hits
        # What had its effect was never sent again; what had none was, once.
        assert sends(fleet) == 180 + hits["drop_before"] + hits["5xx_before"]
        check_all(fleet)


def test_what_a_lookup_found_is_the_answer_for_the_row_and_its_later_steps() -> None:
    rows = calls(12, steps=2, guard="lookup")  # too few to hold their scope
    for row in rows:
        row["steps"][1]["body"]["of"] = "{s1.id}"
    faults = [lost("drop_after", 1, times=12)]
    with Fleet(sandbox={**SLOW, "faults": faults}, client=LOOKS) as fleet:
        fleet.submit(rows)
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 12}

        # An attempt is a send that failed: none of these did.
        assert {it.attempts for it in fleet.transactions().values()} == {0}
        assert all(
            it.provider_id and "s1.id" in it.answers[0] for it in fleet.transactions().values()
        )
        check_all(fleet)


def test_lookups_keep_the_limits_of_their_own_route() -> None:
    limits = [{"name": "app", "count": 200}, {"name": "reads", "count": 20, "match": "GET *"}]
    with Fleet(limits, {**SLOW, "faults": [lost("drop_after", 2)]}, LOOKS) as fleet:
        fleet.submit(calls(100, guard="lookup"))
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 100}

        assert fleet.report()["refused_429"] == 0
        first, *_, last = [it["t_us"] for it in fleet.requests() if it["method"] == "GET"]
        assert last - first > 1_500_000  # 16 at once, then 18 a second
        check_all(fleet)


def test_a_lookup_that_tells_nothing_leaves_the_row_unknown_and_unsent() -> None:
    faults = [lost("drop_after", 2), {"match": "GET *", "kind": "5xx_before"}]
    impatient = {**LOOKS, "outage_patience_s": 3}
    with Fleet(sandbox={**SLOW, "faults": faults}, client=impatient) as fleet:
        fleet.submit(calls(20, guard="lookup"))
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 10, "unknown": 10}

        assert sends(fleet) == 20
        unknown = [it for it in fleet.transactions().values() if it.state == "unknown"]
        assert all("; so it went for" in str(it.error) for it in unknown)
        check_all(fleet, healthy=False)


def test_what_is_sent_in_vain_until_its_attempts_are_spent_and_never_found_has_failed() -> None:
    quick = {**LOOKS, "lookup_after_s": 0.1, "lookups": 1, "max_retries": 2}
    bad = {"business_ids": [f"r{n}.1" for n in (900, 1000)]}  # among many that succeed
    faults = [{"match": "POST *", "when": bad, "kind": "drop_before"}]
    with Fleet(sandbox={"idempotency": "off", "faults": faults}, client=quick) as fleet:
        fleet.submit(calls(2000, guard="lookup"))
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 2, "succeeded": 1998}

        assert (sends(fleet), fleet.report()["requests"]) == (1998 + 6, 1998 + 12)
        check_all(fleet, healthy=False)


@pytest.mark.parametrize("failpoint", ["first_byte", "answer_read"])
def test_a_worker_killed_around_a_send_or_a_lookup_loses_and_doubles_nothing(
    failpoint: str,
) -> None:
    faults = [lost("5xx_after", 2)]
    with Fleet(sandbox={**SLOW, "faults": faults}, client=LOOKS) as fleet:
        fleet.submit(calls(40, guard="lookup"))

        states = killed_at(fleet, failpoint, nth=30)

        assert states == {"succeeded": 40}
        check_all(fleet)


def test_a_refusal_exists_after_an_unknown_attempt_is_a_success_where_the_step_says_so() -> None:
    sandbox = {"idempotency": "off", "unique": "POST /things/*", "faults": [lost("drop_after", 2)]}
    with Fleet(sandbox=sandbox) as fleet:
        rows = calls(20, guard="upsert")
        for row in rows:
            row["steps"][0]["after_unknown"] = {"409 already.exists": "exists"}
        again = {**rows[0], "id": "again"}  # it exists before this one is sent
        fleet.submit(rows)
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 20}

        made = {it.provider_id for it in fleet.transactions().values()}
        assert len(made) == 20
        check_all(fleet)
        fleet.sandbox.post("faults", [])  # no attempt of unknown outcome before the refusal
        fleet.submit([again], job="again")
        assert fleet.wait("again") == {"failed": 1}


def test_a_refusal_in_progress_after_an_unknown_attempt_is_waited_for_under_the_key() -> None:
    with Fleet(client={"max_retries": 8, "backoff_cap_s": 0.5}) as fleet:
        fleet.submit(calls(1, prefix="first"), job="first")  # it fetches the token
        fleet.start_worker("w1")
        fleet.wait("first")
        fleet.sandbox.post("reset")
        fleet.sandbox.post("config", {"latency_ms": 2500})
        fleet.submit(calls(5))
        until(lambda: fleet.sandbox.get("health")["in_flight"] == 5, what="five slow calls")
        fleet.sandbox.post("config", {"latency_ms": 0})

        assert fleet.wait() == {"succeeded": 5}

        report = fleet.report()
        assert report["by_status"]["409"] >= 5
        assert report["replays"] == 5
        check_all(fleet)


def test_a_5xx_that_the_provider_only_remembers_ends_the_row_when_its_attempts_are_spent() -> None:
    when = {"business_ids": ["r200.1"]}
    fault = {"match": "POST *", "when": when, "kind": "5xx_after"}
    with Fleet(sandbox={"store_5xx": True, "faults": [fault]}) as fleet:
        fleet.submit(calls(2000))
        fleet.start_worker("w1")

        assert fleet.wait() == {"unknown": 1, "succeeded": 1999}

        assert fleet.report()["requests"] == 1999 + 4
        assert fleet.transactions()["r200"].attempts == 4
        check_all(fleet, healthy=False)
