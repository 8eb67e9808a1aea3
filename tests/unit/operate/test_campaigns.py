"""How campaigns are asked for and stopped: each answer of the provider, told without one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
import requests

from orchestration.operate.campaigns import AT_ONCE, CampaignRow, read_progress, stop_campaign
from workers.errors import HeadgateError

if TYPE_CHECKING:
    from workers.session.session import GovernedSession

BASE = "/api/v2/outbound/campaigns"
MAY = CampaignRow(1, "may", "succeeded", "c1")


class Session:
    """Answers as it was told; an exception is raised."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def request(self, method: str, path: str, json: Any = None) -> requests.Response:
        self.asked.append(f"{method} {path}" + (f" {len(json)}" if json else ""))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return a_response(*answer)


def a_response(status: int, body: Any) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps(body).encode()
    return response


def the(session: Session) -> GovernedSession:
    return cast("GovernedSession", session)


def state(name: str) -> tuple[int, Any]:
    return 200, {"campaignStatus": name}


@pytest.mark.parametrize("name", ["off", "complete", "stopping", "forced_off"])
def test_a_campaign_that_is_off_or_stopping_is_left_as_it_is(name: str) -> None:
    session = Session(state(name))

    it = stop_campaign(the(session), MAY)

    assert (it.stopped, it.words) == (True, f"already {name}")
    assert session.asked == [f"GET {BASE}/c1"]


def test_one_that_is_on_is_stopped() -> None:
    session = Session(state("on"), (200, {}))

    it = stop_campaign(the(session), MAY)

    assert (it.stopped, it.words) == (True, "stopping")
    assert session.asked == [f"GET {BASE}/c1", f"POST {BASE}/c1/stop"]


@pytest.mark.parametrize("lost", [requests.ConnectionError("no answer"), (500, {}), (409, {})])
def test_after_a_doubt_the_state_tells_and_the_stop_is_not_sent_again(lost: Any) -> None:
    done, undone = Session(state("on"), lost, state("off")), Session(state("on"), lost, state("on"))

    assert (stop_campaign(the(done), MAY).stopped, stop_campaign(the(undone), MAY).stopped) == (
        True,
        False,
    )

    assert undone.asked == [f"GET {BASE}/c1", f"POST {BASE}/c1/stop", f"GET {BASE}/c1"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {}), "could not be stopped: the provider answered 404, the campaign is not there"),
        (
            (403, {}),
            (
                "could not be stopped: the provider answered 403: grant the OAuth client "
                "outbound:campaign:view"
            ),
        ),
    ],
)
def test_what_cannot_be_looked_at_is_told_and_the_others_go_on(answer: Any, words: str) -> None:
    it = stop_campaign(the(Session(answer)), MAY)

    assert (it.stopped, it.words) == (False, words)


def test_a_row_without_a_campaign_is_told_and_counts_as_stopped_when_it_has_failed() -> None:
    waits, failed, unknown = (
        stop_campaign(the(Session()), CampaignRow(1, "may", row, None))
        for row in ("waiting", "failed", "unknown")
    )

    assert (waits.stopped, failed.stopped, unknown.stopped) == (False, True, False)
    assert "goes on" in waits.words
    assert "look for it at the provider" in unknown.words


@pytest.mark.parametrize("row", ["waiting", "in_flight"])
def test_one_that_is_off_because_its_start_is_still_to_come_does_not_count_as_stopped(
    row: str,
) -> None:
    it = stop_campaign(the(Session(state("off"))), CampaignRow(1, "may", row, "c1"))

    assert not it.stopped
    assert f"off, but its row is {row}, and starts it" in it.words


def told(name: str) -> dict[str, Any]:
    return {
        "campaign": {"id": name},
        "numberOfContactsCalled": 5,
        "totalNumberOfContacts": 10,
        "percentage": 50,
    }


def test_progress_is_asked_for_many_at_once_and_told_in_the_order_of_the_rows() -> None:
    made = [CampaignRow(n, f"r{n}", "succeeded", f"c{n}") for n in range(AT_ONCE + 1)]
    made.insert(1, CampaignRow(9, "open", "waiting", None))
    first = [told(f"c{n}") for n in reversed(range(AT_ONCE))]
    session = Session((200, first), (200, [told(f"c{AT_ONCE}")]))

    found = list(read_progress(the(session), made))

    assert session.asked == [f"POST {BASE}/progress {AT_ONCE}", f"POST {BASE}/progress 1"]
    assert [it.row for it in found] == [it.row for it in made]
    assert [it.words for it in found if it.campaign is None] == ["not made yet"]
    assert {it.words for it in found if it.campaign} == {"5 of 10 contacts called, 50 %"}


def test_one_that_is_gone_does_not_hide_the_others() -> None:
    made = [CampaignRow(n, f"r{n}", "succeeded", f"c{n}") for n in range(3)]
    session = Session((404, {}), (200, [told("c0")]), (404, {}), (404, {}), (200, [told("c2")]))

    found = list(read_progress(the(session), made))

    assert [it.called for it in found] == [5, None, 5]


def test_a_refusal_names_the_permission() -> None:
    with pytest.raises(HeadgateError, match="grant the OAuth client outbound:campaign:view"):
        list(read_progress(the(Session((403, {}))), [MAY]))
