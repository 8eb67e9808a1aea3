"""What each step of a campaign sends, how its look-up is read, when its contacts are asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from tasks.genesys.campaigns import CampaignSteps, child_of
from tasks.genesys.operations import OPERATIONS, operation_of
from tasks.kind import CannotSay
from workers.answer.guards import Guard, LookupResult, Memo, NextCall
from workers.answer.outcome import Answer
from workers.governor.grants import Grant
from workers.ledger.batch import Place
from workers.ledger.job import JobParams
from workers.ledger.ledger import LoadProgress

if TYPE_CHECKING:
    from workers.clients import Client
    from workers.settings.client import ClientSettings

PARAMS = JobParams(kind="calls")
KEY = "1f0c6d2a-9b34-8d11-9a3b-0f6c2d4e8b17"
ROW: dict[str, Any] = {
    "id": "may",
    "list": {"name": "Mai & Söhne", "columnNames": ["id", "phone"]},
    "campaign": {"name": "May", "dialingMode": "preview"},
    "load": {"rows": 20},
    "may_fail": 1,
}
LIST, CAMPAIGN = {"list": "l 1"}, {"campaign": "c1"}
FOUND, ABSENT, UNSURE = LookupResult
SEND, LOOK = Memo(), Memo(next=NextCall.LOOKUP, lookups=0)


def a_grant(step: int, *answers: dict[str, Any], memo: Memo = SEND) -> Grant:
    return Grant(
        key=KEY, step=step, fence="1", start_in_s=0.0, stale_at_ns=0, job="j", place=Place(0, 0),
        attempts=0, unknown=False, throttled=0, answers=list(answers), memo=memo,
    )  # fmt: skip


def an_answer(body: Any, status: int = 200, error: str | None = None) -> Answer:
    return Answer(status=status, body=json.dumps(body).encode(), error=error)


def planned(**params: Any) -> list[Any]:
    return list(
        CampaignSteps().plan(
            ROW, JobParams(kind="campaigns", **params), cast("ClientSettings", None)
        )
    )


def test_the_chain_is_list_load_campaign_start_and_without_start_one_less() -> None:
    names = ["create_list", "load", "create_campaign", "start"]

    assert [it.name for it in planned(start=True)] == names
    assert [it.name for it in planned(start=False)] == names[:-1]
    assert [it.guard for it in planned(start=True)] == [
        Guard.LOOKUP, Guard.READ, Guard.LOOKUP, Guard.LOOKUP
    ]  # fmt: skip


@pytest.mark.parametrize(("step", "name"), [(1, "Mai & Söhne"), (3, "May")])
def test_what_is_made_has_a_name_that_its_lookup_asks_for(step: int, name: str) -> None:
    made = CampaignSteps().request(ROW, PARAMS, a_grant(step, LIST))
    asked = CampaignSteps().request(ROW, PARAMS, a_grant(step, LIST, memo=LOOK))

    body = json.loads(made.body or b"")
    query = parse_qs(urlsplit(asked.path).query)
    assert body["name"] == f"{name} [1f0c6d2a]"
    assert query == {"name": [body["name"]], "filterType": ["Equals"]}
    assert (made.method, asked.method) == ("POST", "GET")
    assert (asked.body, urlsplit(asked.path).path) == (None, made.path)


def test_the_campaign_names_its_list_and_the_start_its_campaign() -> None:
    campaign = CampaignSteps().request(ROW, PARAMS, a_grant(3, LIST))
    start = CampaignSteps().request(ROW, PARAMS, a_grant(4, LIST, CAMPAIGN))
    look = CampaignSteps().request(ROW, PARAMS, a_grant(4, LIST, CAMPAIGN, memo=LOOK))

    assert json.loads(campaign.body or b"")["contactList"] == {"id": "l 1"}
    assert (start.method, start.path) == ("POST", "/api/v2/outbound/campaigns/c1/start")
    assert start.body is None
    assert (look.method, look.path) == ("GET", "/api/v2/outbound/campaigns/c1")


def test_a_campaign_without_the_id_of_its_list_is_not_sent() -> None:
    with pytest.raises(CannotSay, match="the answer of create_list held no id"):
        CampaignSteps().request(ROW, PARAMS, a_grant(3))


@pytest.mark.parametrize(
    ("answer", "sight"),
    [
        (an_answer({"entities": [{"id": "l1", "name": "Mai & Söhne [1f0c6d2a]"}]}), FOUND),
        (an_answer({"entities": [{"id": "l1", "name": "Mai & Söhne"}]}), ABSENT),
        (an_answer({"entities": []}), ABSENT),
        (an_answer({"entities": []}, error="body cut"), UNSURE),
        (an_answer({}, 500), UNSURE),
    ],
)
def test_a_list_is_found_by_its_whole_name_alone(answer: Answer, sight: LookupResult) -> None:
    assert CampaignSteps().read_lookup(ROW, a_grant(1, memo=LOOK), answer) is sight


@pytest.mark.parametrize(
    ("answer", "sight"),
    [
        *[(an_answer({"campaignStatus": it}), FOUND) for it in ("on", "complete")],
        # Somebody stops it meanwhile: it was started, and must not be again.
        *[(an_answer({"campaignStatus": it}), FOUND) for it in ("stopping", "forced_off")],
        *[(an_answer({"campaignStatus": it}), ABSENT) for it in ("off", "invalid")],
        (an_answer({}, 404), UNSURE),  # it was made: reads lag behind
        (an_answer({"campaignStatus": "on"}, error="body cut"), UNSURE),
        (an_answer({"campaignStatus": "on"}, 503), UNSURE),
    ],
)
def test_a_campaign_that_is_on_or_was_is_started(answer: Answer, sight: LookupResult) -> None:
    assert CampaignSteps().read_lookup(ROW, a_grant(4, LIST, CAMPAIGN, memo=LOOK), answer) is sight


def test_ids_are_kept_from_answers_and_from_lookups_alike() -> None:
    own = CampaignSteps().keep(ROW, a_grant(1), an_answer({"id": "l1"}))
    found = CampaignSteps().keep(
        ROW, a_grant(3, LIST, memo=LOOK), an_answer({"entities": [{"id": "c1"}]})
    )

    assert (own.provider_id, json.loads(own.values)) == ("l1", {"list": "l1"})
    assert (found.provider_id, json.loads(found.values)) == ("c1", {"campaign": "c1"})


class Ledger:
    """Tells what it was given of the contacts."""

    def __init__(self, told: LoadProgress | None) -> None:
        self.told = told
        self.asked: tuple[object, ...] = ()

    def start_load(self, *asked: object) -> LoadProgress | None:
        self.asked = asked
        return self.told


class Its:
    """A client of which only the ledger is asked."""

    def __init__(self, told: LoadProgress | None) -> None:
        self.ledger = Ledger(told)


def loading(**told: Any) -> LoadProgress:
    it = {"rows": 20, "ended": 0, "rejected": 0, "succeeded": 0, "failed": 0, "unknown": 0}
    return LoadProgress(**{**it, "elapsed_s": 0.0, "finished": False, **told})


def acted(told: LoadProgress | None) -> tuple[str, float, str]:
    its = Its(told)
    it = CampaignSteps().run_local(ROW, PARAMS, a_grant(2, LIST), cast("Client", its))
    assert its.ledger.asked == (child_of(KEY), "l 1", 20)
    return it.how, it.after_s, it.text


@pytest.mark.parametrize(
    ("told", "after_s"),
    [
        ({}, 0.5),  # released a moment ago
        ({"ended": 5, "elapsed_s": 1.0}, 3.0),  # as long for each of the 15 that are left
        ({"ended": 10, "rejected": 5, "elapsed_s": 1.0}, 2.0),  # those were no work
        ({"ended": 19, "elapsed_s": 1.0}, 0.5),
        ({"ended": 1, "elapsed_s": 60.0}, 10.0),
        ({"elapsed_s": 2.0}, 2.0),  # none has ended: nobody knows the pace
        ({"rejected": 5, "ended": 5, "elapsed_s": 2.0}, 2.0),
        ({"elapsed_s": 60.0}, 10.0),
    ],
)
def test_it_looks_again_when_all_will_have_ended_at_this_pace(
    told: dict[str, Any], after_s: float
) -> None:
    assert acted(loading(**told))[:2] == ("not yet", after_s)


@pytest.mark.parametrize(
    ("counts", "how"),
    [
        ({"succeeded": 20}, "done"),
        ({"succeeded": 19, "rejected": 1}, "done"),
        ({"succeeded": 19, "failed": 1}, "done"),
        ({"succeeded": 18, "failed": 1, "unknown": 1}, "failed"),
        ({"succeeded": 18, "failed": 1}, "failed"),  # one more has ended in another state
        ({"succeeded": 0, "unknown": 1, "rejected": 19}, "failed"),
    ],
)
def test_more_than_may_fail_or_no_contact_at_all_ends_it(counts: dict[str, int], how: str) -> None:
    assert acted(loading(**counts, ended=20, finished=True))[0] == how


def test_contacts_that_the_store_lost_are_an_end_that_says_what_to_do() -> None:
    how, _, text = acted(None)

    assert how == "failed"
    assert "its contacts, job l-1f0c6d2a9b34, are not whole in the store" in text


def test_every_operation_names_its_permission_and_is_told_by_its_requests_alone() -> None:
    for name, it in OPERATIONS.items():
        path = it.at(*["7f3a"] * it.path.count("{"))
        assert it.permission.startswith(("outbound:", "architect:", "responseAssets:"))
        assert operation_of(it.method, path) == name
    assert operation_of("DELETE", "/api/v2/outbound/campaigns/7f3a") == ""
    assert operation_of("GET", "/api/v2/outbound/campaigns/7f3a/x") == ""
