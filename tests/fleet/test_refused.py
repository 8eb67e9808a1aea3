"""What a person must change is one sentence that says what: on real workers, at the real run."""

from __future__ import annotations

from orchestration.sandbox.process import SandboxProcess
from orchestration.views.status import status
from tests.support.campaigns import KEYLESS, STRICT, children, definition, run, submit, write
from tests.support.fleet import Fleet, calls, contacts, until


def held(fleet: Fleet, said: str) -> None:
    """Nothing leaves, and log and status say why."""
    until(lambda: said in fleet.log("w1"), what=f"{said!r} in the log", fleet=fleet)
    until(lambda: said in str(_reasons(fleet)), what="the reason in the status")
    assert fleet.ended() == 0


def _reasons(fleet: Fleet) -> list[object]:
    now = status(fleet.client)
    return [*now.holds, *now.failures, *now.problems]


def test_a_wrong_secret_is_told_with_the_keys_and_the_region_to_look_at() -> None:
    with Fleet(sandbox={"clients": {"acme": "another"}}) as fleet:
        text = fleet.config.read_text()
        fleet.config.write_text(
            text.replace(
                "[clients.acme]\n", '[clients.acme]\nprovider = "genesys"\nregion = "eu-west-1"\n'
            )
        )
        fleet.submit(calls(5))
        fleet.start_worker("w1", concurrency=4)

        held(
            fleet,
            "client acme: the token endpoint refuses the client id or secret (401 invalid_client); "
            "check client_id and client_secret_env, and that the organisation is in region "
            "eu-west-1",
        )


class OtherRegion:
    """Stands where base_url leads: another provider, which knows no token of the first one."""

    def __init__(self, url: str) -> None:
        del url
        self.sandbox = SandboxProcess({"clients": {"acme": "x"}})

    def __enter__(self) -> str:
        self.sandbox.__enter__()
        return self.sandbox.url

    def __exit__(self, *_: object) -> None:
        self.sandbox.stop()


def test_a_token_of_another_region_is_told_as_that() -> None:
    with Fleet(front=OtherRegion) as fleet:
        fleet.submit(calls(5))
        fleet.start_worker("w1", concurrency=4)

        held(
            fleet,
            "the provider answered 401 (bad.credentials) to a token that is valid; see that "
            "base_url and token_url are of the same region, and what the client may do",
        )
        assert fleet.report()["token_requests"]["acme"] <= 6


def test_an_unknown_contact_list_fails_each_contact_with_what_to_do() -> None:
    with Fleet(sandbox={"strict_lists": True}) as fleet:
        fleet.submit(contacts(3), kind="contacts")
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 3}

        said = (
            "the provider answered 404 (not.found): there is no such contact list; see that "
            "--list and the client's region are right, and submit the file again"
        )
        assert run(fleet, "report", "job").stdout.count(said) == 3


def test_a_campaign_that_may_not_be_made_waits_and_its_operation_says_what_to_grant() -> None:
    faults = [{"match": "POST /api/v2/outbound/campaigns", "kind": "403"}]
    with Fleet(sandbox={**STRICT, "faults": faults}, client=KEYLESS) as fleet:
        job = submit(fleet, write(fleet, [definition("may")], 5))["job"]
        fleet.start_worker("w1")
        until(lambda: fleet.report()["by_status"].get("403"), what="the refusal", fleet=fleet)

        said = "grant the OAuth client"
        until(lambda: said in run(fleet, "status").stdout, what="the hold", fleet=fleet)
        # Now and then it is tried again, and looked for.
        until(lambda: said in run(fleet, "report", job).stdout, what="the reason in the report")
        (child,) = children(fleet, job).values()
        assert f"load {child}: 5 of 5" in run(fleet, "report", job).stdout
        assert fleet.ended(job) == 0
        assert "POST /api/v2/outbound/campaigns" in run(fleet, "status").stdout
