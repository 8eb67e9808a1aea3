"""Polls and parts of `calls` as they are given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestration.intake.readers.calls import read_calls
from orchestration.intake.readers.steps import MAX_PARTS
from orchestration.kinds import find_kind
from tests.support.desk import ACME, KEYED, chain, read_one
from tests.unit.intake.test_calls import a_call
from workers.ledger.job import JobParams

READY = {"equals": {"/state": "done"}}
TWO = [{"id": "a"}, {"id": "b"}]


def polled(**changes: Any) -> dict[str, Any]:
    return a_call(method="GET", body=None, poll={"until": READY, **changes})


def in_parts(**changes: Any) -> dict[str, Any]:
    return a_call(**{"body": {"name": "{part.id}"}, "parts": TWO, **changes})


def test_a_poll_asks_every_10_s_60_times_unless_it_says_so() -> None:
    (step,) = read_one(polled())["steps"]
    (other,) = read_one(polled(every_s=0.5, times=3, failed=[READY, READY]))["steps"]

    assert step["poll"] == {"every_s": 10, "times": 60, "until": [READY]}
    assert other["poll"] == {"every_s": 0.5, "times": 3, "until": [READY], "failed": [READY] * 2}


def test_parts_are_as_many_calls_of_their_step() -> None:
    row = read_one(in_parts())
    (planned,) = find_kind("calls").steps.plan(row, JobParams(kind="calls"), ACME)

    assert (planned.parts, planned.polls) == (2, 0)


@pytest.mark.parametrize(
    ("poll", "error"),
    [
        ({"until": None}, "poll, until: must be a JSON object with some of status at equals id"),
        ({"until": []}, "poll, until: must be a condition, or a list of 1 to 10 of them"),
        ({"failed": {"stat": 1}}, "poll, failed, stat: unknown field"),
        ({"every_s": 0}, "poll, every_s: must be a number of seconds above 0, at most 86400"),
        ({"every_s": True}, "poll, every_s: must be a number of seconds above 0, at most 86400"),
        ({"times": 0}, "poll, times: must be a whole number from 1 to 10000"),
        ({"times": 1.5}, "poll, times: must be a whole number from 1 to 10000"),
        ({"often": 1}, "poll, often: unknown field"),
    ],
)
def test_a_poll_that_cannot_be_is_rejected_in_one_sentence(
    poll: dict[str, Any], error: str
) -> None:
    assert read_one(polled(**poll))["error"] == error


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (a_call(poll={"until": READY}), "poll: is for GET and HEAD, which have no effect"),
        (
            {**polled(), "method": "HEAD"},
            "poll, until: the answer to HEAD has no body; use GET or status alone",
        ),
        ({**polled(), "poll": []}, "poll: must be a JSON object"),
        ({**polled(), "guard": "upsert"}, "poll: goes with neither parts nor a guard"),
        ({**polled(), "parts": TWO}, "poll: goes with neither parts nor a guard"),
        (in_parts(parts={}), f"parts: must be a list of 1 to {MAX_PARTS} JSON objects"),
        (in_parts(parts=[]), f"parts: must be a list of 1 to {MAX_PARTS} JSON objects"),
        (in_parts(parts=[1]), "parts, part 1: must be a JSON object"),
        (in_parts(parts=[*TWO, {"ID": "c"}]), "parts, part 3: has no value for {part.id}"),
        (
            in_parts(path="/x/{part.id}", parts=[*TWO, {"id": ""}]),
            "parts, part 3: a value is empty or dots, which no path can hold",
        ),
        (
            in_parts(headers={"X-Name": "{part.id}"}, parts=[{"id": "ü"}]),
            "parts, part 1: a value cannot stand in a header, which is printable ASCII",
        ),
        (
            in_parts(method="GET", body=None, path="/x/{part.id}"),
            "parts: are for calls that have an effect; give each read a step",
        ),
        (in_parts(path="/x/{part.no}"), "parts, part 1: has no value for {part.no}"),
        (a_call(path="/x/{part.id}"), "path: {part.id} refers to no earlier step of this row"),
        (
            chain({"name": "part"}, {"parts": TWO}),
            "step 1, name: part means a part of steps with parts; use another one",
        ),
    ],
)
def test_a_step_of_several_calls_that_cannot_be_is_rejected_in_one_sentence(
    line: dict[str, Any], error: str
) -> None:
    assert read_one(line)["error"] == error


@pytest.mark.parametrize("value", ["../y", "a/../../b"])
def test_a_part_that_leads_a_path_upwards_is_rejected(value: str) -> None:
    error = read_one(in_parts(path="/x/{part.id}/z", parts=[*TWO, {"id": value}]))["error"]

    assert error.startswith("parts, part 3: ")
    assert "segment" in error


def test_a_place_in_a_list_that_no_list_has_is_rejected_like_any_value_that_is_missing() -> None:
    far = "{part.id.%s}" % ("9" * 5000)

    assert "has no value for" in read_one(in_parts(body=far, parts=[{"id": [1]}]))["error"]


def test_a_step_may_be_called_part_where_no_step_has_parts() -> None:
    row = read_one(chain({"name": "part"}, {"path": "/x/{part.id}"}))

    assert "error" not in row


def test_parts_have_keys_of_their_own_so_that_steps_of_one_place_are_all_run() -> None:
    steps = [{"parts": TWO, "body": "{part.id}"}, {"parts": TWO, "body": ["{part.id}"]}]

    assert "error" not in read_one(chain(*steps), KEYED)
    assert "key_scope" in read_one(chain({}, {}), KEYED)["error"]


def test_a_poll_and_parts_are_the_same_row_when_read_again() -> None:
    lines = [json.dumps(it) for it in (polled(), in_parts())]

    rows = list(read_calls(enumerate(lines, 1), ACME))

    assert [json.loads(json.dumps(it)) for it in rows] == rows
