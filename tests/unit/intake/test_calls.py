from __future__ import annotations

import json
from typing import Any

import pytest

from orchestration.intake.readers.calls import MAX_STEPS
from orchestration.intake.readers.source import MAX_LINE
from orchestration.intake.readers.steps import MAX_PATH
from orchestration.intake.readers.strict_json import MAX_DEPTH, MAX_VALUES
from orchestration.kinds import find_kind
from tests.support.desk import ACME, KEYED, Desk, a_call, chain, read, read_one
from workers.ledger.job import JobParams
from workers.settings.client import ClientSettings, TenantSettings

TENANTS = ACME.model_copy(update={"tenants": {"emea": TenantSettings()}})


LOOKUP = {"method": "GET", "path": "/things?name=a", "found": {"at": "/entities/0"}}


def looked_up(**changes: Any) -> dict[str, Any]:
    return a_call(guard="lookup", lookup=changes.get("lookup", {**LOOKUP, **changes}))


def test_a_single_request_becomes_a_row_of_one_step_called_call() -> None:
    line = a_call(method="post", headers={"X-Kind": "a"}, body={"b": [1, "ü"]}, guard="upsert")

    assert read_one(line) == {
        "line": 1,
        "id": "a",
        "steps": [
            {
                "name": "call",
                "method": "POST",
                "path": "/things",
                "headers": {"X-Kind": "a"},
                "body": {"b": [1, "ü"]},
                "guard": "upsert",
            }
        ],
    }


def test_a_lookup_and_what_refusals_mean_are_kept_as_they_are_sent() -> None:
    lookup = {
        "method": "post", "path": "/search", "body": {"name": "{s0.id}"}, "headers": {"X-A": "b"},
        "found": {"status": 200, "at": "/hits/0", "equals": {"/of": "{s0.id}"}, "id": "/key"},
        "absent": {"equals": {"/total": 0}},
    }  # fmt: skip
    said = {"409 already.exists": "exists", "412": "stale"}
    line = chain({"guard": "upsert", "after_unknown": said}, {"guard": "lookup", "lookup": lookup})

    first, second = read_one(line)["steps"]

    assert first["after_unknown"] == said
    assert second["lookup"] == {**lookup, "method": "POST"}
    planned = find_kind("calls").steps.plan(read_one(line), JobParams(kind="calls"), ACME)
    assert [it.lookup for it in planned] == ["", "POST /search"]


def test_a_chain_keeps_its_steps_and_may_use_earlier_answers() -> None:
    line = chain({}, {"path": "/x/{s0.id}/start", "body": ["{s0.a.b}", "{whatever.x}"]})

    row = read_one(line)

    assert [step["name"] for step in row["steps"]] == ["s0", "s1"]
    assert row["steps"][1]["body"] == ["{s0.a.b}", "{whatever.x}"]
    assert "error" not in row


def test_text_in_braces_is_only_text_where_no_step_has_a_name() -> None:
    assert "error" not in read_one(a_call(body="Dear {call.name}"))


@pytest.mark.parametrize(
    ("client", "steps"),
    [
        (KEYED, [{}, {}]),
        (KEYED, [{}, {"guard": "upsert"}]),
        (KEYED, [{}, {"path": "/x?again=1"}]),
        (ACME, [{"guard": "none"}, {"guard": "key"}]),
        (KEYED, [{"path": "/y"}, {"path": "/x/{s0.id}"}, {"path": "/x/{s0.id}"}]),
    ],
)
def test_a_step_that_the_provider_would_take_for_a_resend_of_another_is_rejected(
    client: ClientSettings, steps: list[dict[str, Any]]
) -> None:
    second = len(steps)

    row = read_one(chain(*steps), client)

    assert row["error"] == (
        f"step {second} (s{second - 1}): has method, path and key of step {second - 1} "
        f"(s{second - 2}), so the provider would not run it; set key_scope = "
        f'"step" for the client'
    )
    by_step = client.model_copy(update={"key_scope": "step"})
    assert "error" not in read_one(chain(*steps), by_step)


@pytest.mark.parametrize(
    ("client", "steps"),
    [
        (KEYED, [{}, {"method": "PUT"}, {"path": "/x/"}]),
        (KEYED, [{"method": "GET"}, {"method": "GET"}, {}]),
        (ACME, [{}, {"guard": "upsert"}]),
    ],
)
def test_steps_that_no_provider_could_confuse_are_accepted(
    client: ClientSettings, steps: list[dict[str, Any]]
) -> None:
    assert "error" not in read_one(chain(*steps), client)


def test_a_quoted_brace_is_part_of_a_path() -> None:
    assert "error" not in read_one(a_call(path="/x/%7Ba%7D"))


@pytest.mark.parametrize(
    ("lane", "number"), [("urgent", 0), ("bulk", 2), (0, 0), (3, 1), ("6", 1), (9, 2)]
)
def test_a_lane_is_a_word_or_a_priority(lane: str | int, number: int) -> None:
    assert read_one(a_call(lane=lane))["lane"] == number


def test_blank_lines_are_no_rows_but_count_as_lines() -> None:
    rows = read("\n", json.dumps(a_call()), "  \r\n", json.dumps(a_call("b")))

    assert [(row["line"], row["id"]) for row in rows] == [(2, "a"), (4, "b")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "must be a JSON object"),
        ('"x"', "must be a JSON object"),
        ("{", "is not JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"id": NaN}', "is not JSON: NaN is no number"),
        ('{"id": "a", "body": 1e999}', "holds a number that is too large"),
        ('{"id": "a", "body": ' + "9" * 5000 + "}", "holds a number of too many digits"),
        ('{"id": "a", "id": "b"}', "id: given twice in one object"),
        ('{"id": "a\tb"}', "is not JSON: Invalid control character at column 10"),
        ('{"id": "a', "is not JSON: Unterminated string starting at column 8"),
        ('{"id": "\\x"}', "is not JSON: Invalid \\escape at column 9"),
        (a_call(body="\ud800"), "holds half of a surrogate pair"),
        ("[" * 100_000, f"is nested deeper than {MAX_DEPTH} levels"),
        ('{"id": "a", "body": ' + "[" * 70 + "]" * 70 + "}", "is nested deeper than"),
        ({"method": "GET", "path": "/"}, "id: must be text"),
        (a_call() | {"id": 7}, "id: must be text"),
        (a_call(""), "id: must be text"),
        (a_call("a" * 129), "id: must be text"),
        (a_call("a b"), "id: must be text"),
        (a_call("a\r\nb"), "id: must be text"),
        (a_call("a\n"), "id: must be text"),
        (a_call(colour="red"), "colour: unknown field"),
        (a_call(steps=[]), 'method: unknown field beside "steps"'),
        (a_call(method="TRACE"), "method: must be one of GET"),
        (a_call(method=None), "method: must be one of GET"),
        (a_call(path=7), "path: must be text"),
        (a_call(path="/" + "x" * MAX_PATH), "path: is longer than 8,192 characters"),
        (a_call(path="things"), "the path must begin"),
        (a_call(path="http://other.example/x"), "the path must begin"),
        (a_call(path="/a b"), "the path must begin"),
        (a_call(path="/a\r\nHost: x"), "the path must begin"),
        (a_call(path="/\x00"), "the path must begin"),
        (a_call(path="/ü"), "the path must begin"),
        (a_call(path="/../../tenant-b/v2/x"), 'the path must have no segment "." or ".."'),
        (a_call(path="/%2e%2E/x"), 'the path must have no segment "." or ".."'),
        (a_call(path="/x/{create.id}"), "path: {create.id} refers to no earlier step"),
        (a_call(path="/x/{call.id}"), "path: {call.id} refers to no earlier step"),
        (a_call(path="/x/{a}"), "path: has a brace outside of a reference; quote it as %7B or %7D"),
        (a_call(headers=[]), "headers: must be a JSON object"),
        (a_call(headers={"X-A": 1}), "headers: the value of X-A must be printable ASCII"),
        (a_call(headers={"X-A": "a\r\nb"}), "headers: the value of X-A must be printable ASCII"),
        (a_call(headers={"X-A": "ü"}), "headers: the value of X-A must be printable ASCII"),
        (a_call(headers={"X A": "b"}), "'X A' cannot be the name of a header"),
        (a_call(headers={"X\nA": "b"}), "'X\\nA' cannot be the name of a header"),
        (a_call(headers={"": "b"}), "'' cannot be the name of a header"),
        (a_call(headers={"x-a": "1", "X-A": "2"}), "header X-A is given twice"),
        (a_call(headers={"content-type": "a", "Content-Type": "b"}), "headers: Content-Type is"),
        (a_call(headers={"host": "x"}), "header host is given twice or set by Headgate"),
        (a_call(headers={"Content-Length": "1"}), "header Content-Length is given twice or set"),
        (a_call(headers={"transfer-encoding": "x"}), "header transfer-encoding is given twice or"),
        (a_call(headers={"Connection": "x"}), "header Connection is given twice or set"),
        (a_call(headers={"authorization": "x"}), "headers: authorization is set by Headgate"),
        (a_call(headers={"Authorization": "x"}), "headers: Authorization is set by Headgate"),
        (a_call(headers={"X-ONCE": "x"}), "headers: X-ONCE is set by Headgate"),
        (a_call(guard="maybe"), "guard: must be one of key upsert lookup none"),
        (a_call(guard=["key"]), "guard: must be one of key upsert lookup none"),
        (a_call(guard="lookup"), 'guard: guard "lookup" and the field lookup go together'),
        (a_call(lookup=LOOKUP), 'guard: guard "lookup" and the field lookup go together'),
        (looked_up(lookup=[]), "lookup: must be a JSON object"),
        (looked_up(find=1), "lookup, find: unknown field"),
        (looked_up(method="PUT"), "lookup, method: must be one of GET HEAD POST"),
        (looked_up(path="things"), "lookup, the path must begin"),
        (looked_up(path="/x/{call.id}"), "lookup, path: {call.id} refers to no earlier step"),
        (looked_up(headers={"X-Once": "x"}), "lookup, headers: X-Once is set by Headgate"),
        (looked_up(found=None), "lookup, found: must be a JSON object with some of status at"),
        (looked_up(found={}), "lookup, found: must be a JSON object with some of status at"),
        (looked_up(found={"where": 1}), "lookup, found, where: unknown field"),
        (looked_up(found={"status": "200"}), "lookup, found, status: must be a number from 200"),
        (looked_up(found={"status": 500}), "lookup, found, status: must be a number from 200"),
        (looked_up(found={"status": True}), "lookup, found, status: must be a number from 200"),
        (looked_up(absent={"status": 429}), "lookup, absent, status: 429 says nothing of what"),
        (looked_up(found={"at": "entities"}), "lookup, found, at: must be a JSON pointer such as"),
        (looked_up(found={"id": "/a~2"}), "lookup, found, id: must be a JSON pointer such as"),
        (looked_up(found={"equals": {"a": 1}}), "lookup, found, equals: must be a JSON pointer"),
        (looked_up(found={"equals": 1}), "lookup, found, equals: must be a JSON object"),
        (looked_up(method="HEAD"), "lookup, found: the answer to HEAD has no body"),
        (a_call(after_unknown={"409": "exists"}), "after_unknown: is for guards key and upsert"),
        (a_call(guard="key", after_unknown=["409"]), "after_unknown: must be a JSON object"),
        (a_call(guard="key", after_unknown={"429": "exists"}), "after_unknown: must be a JSON"),
        (a_call(guard="key", after_unknown={"409": "there"}), "after_unknown: a meaning must be"),
        (a_call(guard="key", after_unknown={"409": []}), "after_unknown: a meaning must be one"),
        (
            chain({}, {"guard": "lookup", "lookup": {**LOOKUP, "path": "/{s1.id}"}}),
            "step 2, lookup, path: {s1.id} refers to no earlier step",
        ),
        (
            chain(
                {"guard": "lookup", "lookup": {**LOOKUP, "found": {"equals": {"/a": "{s1.id}"}}}},
                {},
            ),
            "step 1, {s1.id} refers to no earlier step",
        ),
        (a_call(lane="fast"), "lane: must be urgent"),
        (a_call(lane=10), "lane: must be urgent"),
        (a_call(lane=True), "lane: must be urgent"),
        (a_call(lane=1.5), "lane: must be urgent"),
        (a_call(tenant=["emea"]), "tenant: must be text"),
        (a_call(tenant="a:b"), "tenant: must be 1 to 64"),
        ({"id": "a", "steps": {}}, "steps: must be a list of 1 to 20 steps"),
        ({"id": "a", "steps": []}, "steps: must be a list of 1 to 20 steps"),
        (chain(*[{}] * (MAX_STEPS + 1)), "steps: must be a list of 1 to 20 steps"),
        ({"id": "a", "steps": ["x"]}, "step 1: must be a JSON object"),
        (chain({"name": None}), "step 1, name: must be text of 1 to 64"),
        (chain({"name": "a.b"}), "step 1, name: must be text of 1 to 64"),
        (chain({}, {"name": "s0"}), "step 2, name: step 1 has the same one"),
        (chain({}, {"id": "x"}), "step 2, id: unknown field"),
        (chain({}, {"method": "FETCH"}), "step 2, method: must be one of"),
        (chain({}, {"path": "x"}), "step 2, the path must begin"),
        (chain({}, {"path": "/x/.."}), "step 2, the path must have no segment"),
        (chain({"path": "/{s1.id}"}, {}), "step 1, path: {s1.id} refers to no earlier step"),
        (chain({"body": {"a": ["{s0.id}"]}}), "step 1, {s0.id} refers to no earlier step"),
        (chain({"headers": {"X-A": "{s1.id}"}}, {}), "step 1, {s1.id} refers to no earlier step"),
        (chain({}, {"path": "/x/{so.id}"}), "step 2, path: {so.id} refers to no earlier step"),
        (chain({}, {"path": "/x/{s0}"}), "step 2, path: has a brace outside of a reference"),
        (chain({}, {"path": "/x/{s0.id"}), "step 2, path: has a brace outside of a reference"),
        (chain({}, {"path": "/x/{{s0.id}}"}), "step 2, path: has a brace outside of a reference"),
    ],
    ids=lambda it: json.dumps(it)[:40],
)
def test_a_bad_line_is_rejected_with_a_reason_that_names_the_field(line: Any, reason: str) -> None:
    row = read_one(line)

    assert row["error"].startswith(reason)
    assert "steps" not in row
    assert len(row["error"]) <= 300


def test_a_line_that_is_too_long_is_rejected() -> None:
    assert read(None) == [{"line": 1, "error": f"the line is longer than {MAX_LINE} bytes"}]


def test_a_rejected_row_keeps_its_id_where_it_has_a_good_one() -> None:
    assert read_one(a_call("order-7", path="x"))["id"] == "order-7"
    assert "id" not in read_one(a_call("order 7"))


def test_a_reason_never_shows_what_stands_in_a_field() -> None:
    canary = "canary-4711"
    bad = [
        a_call(canary + " ", path="/x"), a_call(path=canary), a_call(method=canary),
        a_call(headers={"X-A": canary + "\n"}), a_call(guard=canary), a_call(tenant=canary + ":"),
        a_call(lane=canary), f'{{"body": "{canary}" x', a_call(body=canary, steps=canary),
    ]  # fmt: skip

    assert not [row for row in map(read_one, bad) if canary in row["error"]]


def test_a_tenant_must_be_configured_where_tenants_are() -> None:
    assert read_one(a_call(tenant="emea"), TENANTS)["tenant"] == "emea"
    assert read_one(a_call(tenant="apac"), TENANTS)["error"] == (
        "tenant: not a tenant of client acme (emea)"
    )
    assert read_one(a_call(tenant="apac"))["tenant"] == "apac"


def test_a_content_type_of_any_spelling_is_the_one_that_is_sent() -> None:
    step = read_one(a_call(headers={"content-TYPE": "text/plain"}, body="x"))["steps"][0]

    assert step["headers"] == {"Content-Type": "text/plain"}


def test_every_accepted_row_can_be_planned(desk: Desk) -> None:
    answer = desk.accepted("calls", [a_call(), a_call("b", method="get"), chain({})])

    planned = [
        find_kind("calls").steps.plan(row, JobParams(kind="calls"), desk.client.settings())
        for row in desk.rows(answer["job"])
        if "steps" in row
    ]
    assert [len(it) for it in planned] == [1, 1]
    assert answer["rejected"] == 1  # the chain has the id of the first line


def test_a_row_of_very_many_values_is_refused_for_it_would_take_much_memory_when_it_is_sent() -> (
    None
):
    most = MAX_VALUES - 5  # beside id, method, path, body and the row itself

    fits, too_many = (read_one(a_call(body=[{}] * count)) for count in (most, most + 1))

    assert "error" not in fits
    assert too_many["error"] == "has 20,001 values, more than 20,000; make several rows of it"


def test_commas_and_braces_within_a_text_are_no_values() -> None:
    assert "error" not in read_one(a_call(body=",{[" * MAX_VALUES))


@pytest.mark.parametrize(
    "text", ['[\n{"id": "a"},\n{"id": "b"}\n]\n', '\n [{"id": "a"},\n{"id": "b"}]\n', "[ {\n"]
)
@pytest.mark.parametrize("kind", ["calls", "campaigns", "media"])
def test_a_json_array_is_refused_as_a_whole_and_not_taken_in_part(
    desk: Desk, kind: str, text: str
) -> None:
    file = desk.file("rows.json", text)

    result = desk.run("submit", kind, file, "--client", "acme", "--dry-run")

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "this is a JSON array; write one object a line" in result.stderr


def test_utf_16_without_a_mark_is_refused_by_its_name(desk: Desk) -> None:
    result = desk.submit("contacts", "id,phone\n1,+15550100\n".encode("utf-16-le"), "--list", "l")

    assert result.exit_code == 2
    assert "as UTF-16 does; save the file as UTF-8" in result.stderr
