"""What a step makes of the answers before it, and keeps of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.kind import CannotSay
from tasks.rest.calls import CallSteps, id_in
from tasks.rest.references import MAX_FILLED, MAX_VALUE, MAX_VALUES
from workers.answer.outcome import Answer
from workers.governor.grants import Grant
from workers.ledger.batch import Place
from workers.ledger.job import JobParams

PARAMS = JobParams(kind="calls")


def a_row(**second: Any) -> dict[str, Any]:
    """A row whose second step is given, and refers to the first, `a`."""
    steps = [{"name": "a", "method": "POST", "path": "/lists"}]
    return {"steps": [*steps, {"name": "b", "method": "DELETE", "path": "/x", **second}]}


def a_grant(step: int, *answers: dict[str, Any]) -> Grant:
    return Grant(
        key="k", step=step, fence="1", start_in_s=0.0, stale_at_ns=0, job="j", place=Place(0, 0),
        attempts=0, unknown=False, throttled=0, answers=list(answers),
    )  # fmt: skip


def kept(row: dict[str, Any], body: Any) -> dict[str, Any]:
    """What later steps find of this answer to the first one."""
    answer = Answer(status=200, body=json.dumps(body).encode())
    values: dict[str, Any] = json.loads(CallSteps().keep(row, a_grant(1), answer).values)
    return values


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_that_would_change_the_place_of_a_path_is_not_sent(value: str) -> None:
    row = a_row(path="/lists/{a.id}")

    with pytest.raises(CannotSay, match="no path can hold"):
        CallSteps().request(row, PARAMS, a_grant(2, {"a.id": value}))


@pytest.mark.parametrize("value", ["../b", "a/../../b", "/.", "..;/b", "..\\b"])
def test_a_value_that_a_server_could_unquote_into_a_way_upwards_is_not_sent(value: str) -> None:
    row = a_row(path="/lists/{a.id}./x" if value == "/." else "/lists/{a.id}/x")

    with pytest.raises(ValueError, match="segment"):
        CallSteps().request(row, PARAMS, a_grant(2, {"a.id": value}))


@pytest.mark.parametrize(
    ("value", "path"),
    [("a/b", "a%2Fb"), ("...", "..."), ("%2e", "%252e"), ("a?b#c", "a%3Fb%23c"), (7, "7")],
)
def test_any_other_value_is_one_segment_of_a_path(value: object, path: str) -> None:
    row = a_row(path="/lists/{a.id}/x")

    request = CallSteps().request(row, PARAMS, a_grant(2, {"a.id": value}))

    assert request.path == f"/lists/{path}/x"


@pytest.mark.parametrize(
    "second",
    [
        {"path": "/x/{a.id}"},
        {"body": "{a.id}"},
        {"body": ["is {a.id}"]},
        {"headers": {"X": "{a.id}"}},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("value", ["canary\ud800", {"canary": ["\udfff"]}], ids=ascii)
def test_half_a_surrogate_pair_is_not_sent_and_not_shown(
    second: dict[str, Any], value: object
) -> None:
    row = a_row(**second)

    values = kept(row, {"id": value})
    with pytest.raises(CannotSay) as caught:
        CallSteps().request(row, PARAMS, a_grant(2, values))

    assert str(caught.value) == "a.id holds half of a surrogate pair"


def test_the_providers_id_can_always_be_written() -> None:
    assert id_in({"id": "7\ud800"}) == "7?"
    assert id_in([{"id": "\udfffx"}]) == "?x"
    assert id_in({"id": "ü" * 200}) == "ü" * 128


def test_a_value_that_is_too_long_is_said_to_be_and_a_missing_one_to_be_missing() -> None:
    row = a_row(body=["{a.long}", "{a.right}"])
    longest = "x" * (MAX_VALUE - 2)  # with its quotes

    values = kept(row, {"long": longest + "x", "right": longest})
    with pytest.raises(CannotSay) as too_long:
        CallSteps().request(row, PARAMS, a_grant(2, values))
    with pytest.raises(CannotSay) as missing:
        CallSteps().request(row, PARAMS, a_grant(2, {}))

    assert str(too_long.value) == (
        f"a.long was not kept: it is longer than {MAX_VALUE} characters, or all that was to be "
        f"kept of its answer than {MAX_VALUES}"
    )
    assert str(missing.value) == "the answer of step a holds no a.long"
    assert values["a.right"] == longest


def test_what_is_kept_of_one_answer_is_bounded_however_much_later_steps_refer_to() -> None:
    longest = "x" * (MAX_VALUE - 2)
    row = a_row(body=[f"{{a.v{number}}}" for number in range(40)])

    values = kept(row, {f"v{number}": longest for number in range(40)})

    whole = [name for name, value in values.items() if value is not None]
    assert whole == [f"a.v{number}" for number in range(MAX_VALUES // MAX_VALUE)]
    assert len(values) == 40  # of the others it is known that they were not kept


def test_a_row_that_refers_to_a_long_value_often_makes_no_request_of_any_size() -> None:
    times = MAX_FILLED // MAX_VALUE
    longest = {"a.long": "x" * (MAX_VALUE - 2)}

    request = CallSteps().request(a_row(body=["{a.long}"] * times), PARAMS, a_grant(2, longest))
    with pytest.raises(CannotSay, match="references come to more than 1,000,000 characters"):
        CallSteps().request(a_row(body=["{a.long}"] * 90_000), PARAMS, a_grant(2, longest))

    assert request.body is not None
    assert len(request.body) < MAX_FILLED + 10 * times
