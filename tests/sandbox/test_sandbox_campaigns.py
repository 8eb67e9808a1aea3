"""Campaigns: what they must name, their states, their versions, their progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import requests

    from orchestration.sandbox import SandboxProcess

LISTS = "/api/v2/outbound/contactlists"
CAMPAIGNS = "/api/v2/outbound/campaigns"
ALWAYS = {
    "name": "spring",
    "contactList": {"id": "l-1"},
    "phoneColumns": [{"columnName": "phone", "type": "cell"}],
    "callerName": "Shop",
    "callerAddress": "+15550100",
}
AGENTS = {"queue": {"id": "q"}, "script": {"id": "s"}}
ANALYSED = {"edgeGroup": {"id": "e"}, "callAnalysisResponseSet": {"id": "r"}}
MODES: dict[str, dict[str, object]] = {
    "agentless": {**ANALYSED, "outboundLineCount": 4},
    "preview": {**AGENTS},
    "power": {**AGENTS, **ANALYSED, "abandonRate": 3},
    "predictive": {**AGENTS, **ANALYSED, "abandonRate": 3},
    "progressive": {**AGENTS, **ANALYSED},
    "external": {**AGENTS, **ANALYSED},
}


class Caller:
    """A caller with a campaign for the list l-1 of two contacts."""

    def __init__(self, sandbox: SandboxProcess, http: requests.Session) -> None:
        self.sandbox, self.http = sandbox, http
        self.url = sandbox.url + CAMPAIGNS
        contacts = [
            {"id": f"c-{n}", "contactListId": "l-1", "data": {"phone": "1"}} for n in range(2)
        ]
        http.post(f"{sandbox.url}{LISTS}/l-1/contacts", json=contacts, timeout=10)
        self.campaign = http.post(self.url, json=ALWAYS, timeout=10).json()
        self.one = f"{self.url}/{self.campaign['id']}"

    def turn(self, verb: str) -> int:
        return self.http.post(f"{self.one}/{verb}", timeout=10).status_code

    def put(self, **fields: object) -> int:
        return self.http.put(self.one, json={**ALWAYS, **fields}, timeout=10).status_code

    def now(self) -> Any:
        return self.http.get(self.one, timeout=10).json()

    def status(self) -> str:
        return str(self.now()["campaignStatus"])


@pytest.fixture
def caller(sandbox: SandboxProcess, http: requests.Session) -> Caller:
    return Caller(sandbox, http)


@pytest.mark.parametrize("mode", MODES)
def test_each_dialing_mode_requires_its_fields(caller: Caller, mode: str) -> None:
    caller.sandbox.post("config", {"strict_fields": True})
    full = {**ALWAYS, **MODES[mode], "dialingMode": mode}

    refusals = {}
    for name in full:
        without = {key: value for key, value in full.items() if key != name}
        create = caller.http.post(caller.url, json=without, timeout=10)
        update = caller.http.put(caller.one, json={**without, "version": 1}, timeout=10)
        refusals[name] = [
            (answer.status_code, name in answer.json()["message"]) for answer in (create, update)
        ]
    whole = caller.http.post(caller.url, json=full, timeout=10)

    assert refusals == dict.fromkeys(full, [(400, True)] * 2)
    assert (whole.status_code, whole.json()["campaignStatus"]) == (200, "off")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"dialingMode": "loud"}, "dialingMode"),
        ({"contactList": {"id": "none"}}, "contact list none"),
        ({"contactList": "l-1"}, "contact list"),
        ({"phoneColumns": [{"columnName": "phone"}]}, "type"),
    ],
)
def test_a_campaign_for_what_does_not_exist_is_refused(
    caller: Caller, wrong: dict[str, object], named: str
) -> None:
    caller.sandbox.post("config", {"strict_fields": True})
    full = {**ALWAYS, **MODES["preview"], "dialingMode": "preview"}

    answer = caller.http.post(caller.url, json={**full, **wrong}, timeout=10)

    assert (answer.status_code, named in answer.json()["message"]) == (400, True)


def test_a_campaign_is_on_once_started_and_off_after_it_has_been_stopping(caller: Caller) -> None:
    caller.sandbox.post("config", {"stopping_s": 5})

    states = [caller.status()]
    for verb in ("start", "stop"):
        assert caller.turn(verb) == 200
        states.append(caller.status())
    caller.sandbox.post("clock", {"advance_s": 5})
    states.append(caller.status())

    assert states == ["off", "on", "stopping", "off"]
    assert caller.now()["version"] == 3


def test_a_stop_of_what_is_off_has_no_effect(caller: Caller) -> None:
    before = caller.sandbox.get("report")["effects"]

    assert caller.turn("stop") == 200

    assert caller.sandbox.get("report")["effects"] == before


@pytest.mark.parametrize(("rule", "status"), [("harmless", 200), ("409", 409), ("400", 400)])
def test_a_second_start_shows_in_the_journal_or_is_refused(
    caller: Caller, rule: str, status: int
) -> None:
    caller.sandbox.post("config", {"second_start": rule, "stopping_s": 60})

    statuses = [caller.turn("start"), caller.turn("start")]
    state, doubles = caller.status(), caller.sandbox.get("report")["duplicates"]
    caller.turn("stop")
    while_stopping = caller.turn("start")

    assert (statuses, state, while_stopping) == ([200, status], "on", status)
    assert doubles == (rule == "harmless")


def test_a_running_campaign_calls_its_contacts_and_is_complete_after_the_last(
    caller: Caller,
) -> None:
    caller.sandbox.post("config", {"dials_per_s": 0.01})

    def look() -> list[Any]:
        progress = caller.http.get(f"{caller.one}/progress", timeout=10).json()
        many = caller.http.post(f"{caller.url}/progress", json=[caller.campaign["id"]], timeout=10)
        assert many.json() == [progress]
        names = ("numberOfContactsCalled", "totalNumberOfContacts", "percentage")
        return [*(progress[name] for name in names), caller.status()]

    seen = [look()]
    caller.turn("start")
    seen.append(look())
    for _ in range(2):
        caller.sandbox.post("clock", {"advance_s": 101})
        seen.append(look())

    assert seen == [[0, 2, 0, "off"], [0, 2, 0, "on"], [1, 2, 50, "on"], [2, 2, 100, "complete"]]


@pytest.mark.parametrize("refusal", [409, 400])
def test_an_update_needs_the_current_version_and_can_start_and_stop(
    caller: Caller, refusal: int
) -> None:
    caller.sandbox.post("config", {"stale_version": str(refusal)})

    answers = [(caller.put(), caller.status())]
    answers.append((caller.put(version=1, campaignStatus="on"), caller.status()))
    answers.append((caller.put(version=1, campaignStatus="off"), caller.status()))
    answers.append((caller.put(version=2, campaignStatus="off"), caller.status()))

    assert answers == [(400, "off"), (200, "on"), (refusal, "on"), (200, "off")]
    assert caller.now()["version"] == 3


def test_a_new_campaign_is_not_read_before_the_lag_is_over_but_can_be_started(
    caller: Caller,
) -> None:
    caller.sandbox.post("config", {"read_lag_s": 60})
    late = caller.http.post(caller.url, json={**ALWAYS, "name": "late"}, timeout=10).json()
    caller.one = f"{caller.url}/{late['id']}"

    def look() -> list[Any]:
        params = {"name": "late", "filterType": "Equals"}
        by_name = caller.http.get(caller.url, params=params, timeout=10).json()["total"]
        by_id = caller.http.get(caller.one, timeout=10).status_code
        return [by_name, by_id, caller.http.get(f"{caller.one}/progress", timeout=10).status_code]

    before, started = look(), caller.turn("start")
    caller.sandbox.post("clock", {"advance_s": 60})

    assert (before, started, look()) == ([0, 404, 404], 200, [1, 200, 200])
    assert caller.status() == "on"
    ids = [effect["business_id"] for effect in caller.sandbox.get("effects")]
    assert ids[-2:] == ["late", late["id"]]


def test_a_second_campaign_of_a_name_is_refused_where_names_must_differ(caller: Caller) -> None:
    caller.sandbox.post("config", {"duplicate_names": "refused"})

    answer = caller.http.post(caller.url, json=ALWAYS, timeout=10)

    assert answer.status_code == 409


FAULTS: list[tuple[dict[str, object], int, bool]] = [
    ({"kind": "429", "retry_after": 2}, 429, False),
    ({"kind": "429", "retry_after": 7200}, 429, False),
    ({"kind": "401"}, 401, False),
    ({"kind": "409"}, 409, False),
    ({"kind": "5xx_after"}, 500, True),
]


@pytest.mark.parametrize(("fault", "status", "done"), FAULTS)
@pytest.mark.parametrize("verb", ["create", "start", "put"])
def test_faults_hit_campaigns_before_or_after_their_effect(
    caller: Caller, verb: str, fault: dict[str, object], status: int, *, done: bool
) -> None:
    before = caller.sandbox.get("report")["effects"]
    caller.sandbox.post("faults", [{"times": 1, "match": f"* {CAMPAIGNS}*", **fault}])

    match verb:
        case "create":
            answer = caller.http.post(caller.url, json=ALWAYS, timeout=10)
        case "start":
            answer = caller.http.post(f"{caller.one}/start", timeout=10)
        case _:
            answer = caller.http.put(caller.one, json={**ALWAYS, "version": 1}, timeout=10)

    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == (
        str(fault["retry_after"]) if "retry_after" in fault else None
    )
    assert caller.sandbox.get("report")["effects"] == before + done
