"""How the answer to a look-up is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.rest import conditions
from tasks.rest.calls import CallSteps
from workers.answer.guards import LookupResult, Memo, NextCall
from workers.answer.outcome import Answer
from workers.governor.grants import Grant
from workers.ledger.batch import Place
from workers.ledger.job import JobParams

FOUND, ABSENT, UNSURE = LookupResult
PARAMS = JobParams(kind="calls")
AT = {"at": "/entities/0"}
THERE = {"entities": [{"id": "7", "status": "on", "n": 1}], "total": 1}
EMPTY: dict[str, Any] = {"entities": [], "total": 0}


def an_answer(body: Any = None, status: int | None = 200, error: str | None = None) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    return Answer(status=status, body=data, error=error)


@pytest.mark.parametrize(
    ("answer", "lookup", "sight"),
    [
        (an_answer(THERE), {"found": AT}, FOUND),
        (an_answer(EMPTY), {"found": AT}, ABSENT),
        (an_answer({"entities": [None]}), {"found": AT}, ABSENT),
        (an_answer(status=204), {"found": AT}, ABSENT),
        (an_answer({"code": "not.found"}, 404), {"found": AT}, ABSENT),
        (an_answer(status=410), {"found": AT}, ABSENT),
        (an_answer(), {"found": AT}, UNSURE),  # a success without the body that would tell
        (an_answer(THERE, error="body cut"), {"found": AT}, UNSURE),
        (an_answer(THERE, 500), {"found": AT}, UNSURE),
        (an_answer(status=403), {"found": AT}, UNSURE),
        (an_answer(status=None, error="read timeout"), {"found": AT}, UNSURE),
        (an_answer(status=301), {"found": {"status": 200}}, UNSURE),
        (an_answer(), {"found": {"status": 200}}, FOUND),
        (an_answer(status=404), {"found": {"status": 200}}, ABSENT),
        (an_answer(THERE), {"found": {**AT, "equals": {"/status": "on"}}}, FOUND),
        (an_answer(THERE), {"found": {**AT, "equals": {"/status": "off"}}}, ABSENT),
        (an_answer(THERE), {"found": {**AT, "equals": {"/n": True}}}, ABSENT),
        (an_answer(THERE), {"found": {"equals": {"/total": 1}}}, FOUND),
        (an_answer(THERE), {"found": {**AT, "id": "/key"}}, ABSENT),
        (an_answer(EMPTY), {"found": AT, "absent": {"equals": {"/total": 0}}}, ABSENT),
        (an_answer({"state": "?"}), {"found": AT, "absent": {"equals": {"/total": 0}}}, UNSURE),
        (an_answer(status=404), {"found": AT, "absent": {"equals": {"/total": 0}}}, UNSURE),
        (an_answer(status=409), {"found": AT, "absent": {"status": 409}}, ABSENT),
    ],
)
def test_an_answer_is_found_absent_or_not_yet_sure(
    answer: Answer, lookup: dict[str, Any], sight: LookupResult
) -> None:
    assert conditions.read_lookup(answer, lookup) is sight


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", {"a/b": [{"~": 1}], "": 2}),
        ("/a~1b/0/~0", 1),
        ("/", 2),
        ("/a~1b/1", None),
        ("/a~1b/-", None),
        ("/a~1b/99999999999999999999", None),
        ("/a~1b/0/~0/x", None),
    ],
)
def test_a_pointer_leads_where_rfc_6901_says(pointer: str, value: Any) -> None:
    assert conditions.follow_pointer({"a/b": [{"~": 1}], "": 2}, pointer) == value


def a_look(*answers: dict[str, Any]) -> Grant:
    return Grant(
        key="k", step=len(answers) + 1, fence="1", start_in_s=0.0, stale_at_ns=0, job="j",
        place=Place(0, 0), attempts=0, unknown=True, throttled=0, answers=list(answers),
        memo=Memo(next=NextCall.LOOKUP, lookups=0),
    )  # fmt: skip


def a_row(**found: Any) -> dict[str, Any]:
    lookup = {"method": "GET", "path": "/lists/{a.id}/things?name=x", "found": found}
    make = {"name": "b", "method": "POST", "path": "/lists/{a.id}/things", "lookup": lookup}
    use = {"name": "c", "method": "POST", "path": "/things/{b.id}/{b.status}"}
    return {"steps": [{"name": "a", "method": "POST", "path": "/lists"}, make, use]}


def test_a_look_sends_the_lookup_filled_from_earlier_answers() -> None:
    request = CallSteps().request(a_row(**AT), PARAMS, a_look({"a.id": "l 1"}))

    assert (request.method, request.path) == ("GET", "/lists/l%201/things?name=x")
    assert request.body is None


def test_a_condition_may_ask_for_an_earlier_answer() -> None:
    row = a_row(**AT, equals={"/id": "{a.id}"})

    assert CallSteps().read_lookup(row, a_look({"a.id": "7"}), an_answer(THERE)) is FOUND
    assert CallSteps().read_lookup(row, a_look({"a.id": "8"}), an_answer(THERE)) is ABSENT
    assert CallSteps().read_lookup(row, a_look({}), an_answer(THERE)) is UNSURE  # it was not kept


@pytest.mark.parametrize(
    ("found", "provider_id", "values"),
    [
        (AT, "7", {"b.id": "7", "b.status": "on"}),
        ({**AT, "id": "/status"}, "on", {"b.id": "on", "b.status": "on"}),
        ({"at": "/entities/0/id"}, "7", {"b.id": "7"}),
        ({"at": "/entities/0/n"}, "1", {"b.id": 1}),
    ],
)
def test_what_is_found_is_kept_like_an_answer_to_the_send(
    found: dict[str, Any], provider_id: str, values: dict[str, Any]
) -> None:
    kept = CallSteps().keep(a_row(**found), a_look({"a.id": "1"}), an_answer(THERE))

    assert (kept.provider_id, json.loads(kept.values)) == (provider_id, values)


def test_found_by_its_status_alone_nothing_is_kept() -> None:
    kept = CallSteps().keep(a_row(status=200), a_look({"a.id": "1"}), an_answer())

    assert (kept.provider_id, kept.values) == ("", "")
