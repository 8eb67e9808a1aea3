"""Tokens, limits, contacts, campaigns and other paths, as a caller meets them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import requests

if TYPE_CHECKING:
    from orchestration.sandbox import SandboxProcess

Wait = Callable[[Callable[[], object]], None]

FORM = {"grant_type": "client_credentials"}
LIST = "/api/v2/outbound/contactlists/l-1/contacts"
CAMPAIGNS = "/api/v2/outbound/campaigns"


def contact(name: str | None, phone: str = "1", entity: str = "l-1") -> dict[str, object]:
    fields: dict[str, object] = {"contactListId": entity, "data": {"phone": phone}}
    return fields if name is None else {**fields, "id": name}


def test_a_token_is_given_for_basic_and_for_form_credentials(sandbox: SandboxProcess) -> None:
    url = f"{sandbox.url}/oauth/token"
    form = {**FORM, "client_id": "demo", "client_secret": "demo-secret"}

    answers = [
        requests.post(url, FORM, auth=("demo", "demo-secret"), timeout=10),
        requests.post(url, form, timeout=10),
    ]

    for answer in answers:
        assert answer.json().items() >= {"token_type": "bearer", "expires_in": 86_400}.items()
    assert sandbox.get("report")["token_requests"] == {"demo": 2}


def test_a_wrong_secret_is_an_oauth_error(sandbox: SandboxProcess) -> None:
    url = f"{sandbox.url}/oauth/token"

    answer = requests.post(url, FORM, auth=("demo", "wrong"), timeout=10)

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert answer.json()["description"] == answer.json()["error_description"]


def test_a_token_ends_by_its_lifetime_and_by_revocation(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    def status() -> int:
        return http.get(f"{sandbox.url}/things", timeout=10).status_code

    fresh = status()
    sandbox.post("clock", {"advance_s": 86_400})
    expired = status()
    token = requests.post(
        f"{sandbox.url}/oauth/token", FORM, auth=("demo", "demo-secret"), timeout=10
    )
    http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
    renewed = status()
    sandbox.post("revoke")
    revoked = status()

    assert (fresh, expired, renewed, revoked) == (200, 401, 200, 401)
    assert sandbox.get("report")["by_kind"] == {"read": 2, "unauthorised": 2}


def test_an_error_body_has_the_platforms_shape_and_the_answers_correlation_id(
    sandbox: SandboxProcess,
) -> None:
    answer = requests.get(f"{sandbox.url}/things", timeout=10)

    body = answer.json()
    assert set(body) == {"message", "code", "status", "contextId", "details", "errors"}
    assert (body["code"], body["status"]) == ("bad.credentials", 401)
    assert body["contextId"] == str(UUID(answer.headers["ININ-Correlation-Id"]))


@pytest.mark.parametrize("shape", ["bucket", "fixed_window", "sliding_window"])
def test_a_call_above_a_limit_is_refused_has_no_effect_and_is_not_charged(
    sandbox: SandboxProcess, http: requests.Session, shape: str
) -> None:
    limit = {"name": "l", "count": 2, "window_s": 3600, "shape": shape, "match": "POST /o*"}
    sandbox.post("config", {"limits": [limit]})

    statuses = [
        http.post(f"{sandbox.url}/orders", json={"business_id": n}, timeout=10).status_code
        for n in range(4)
    ]
    elsewhere = http.post(f"{sandbox.url}/things", timeout=10).status_code

    report = sandbox.get("report")
    assert (statuses, elsewhere) == ([201, 201, 429, 429], 201)
    assert (report["effects"], report["refused_429"]) == (3, 2)
    assert report["windows"][0].items() >= {"max_accepted": 2, "max_arrived": 4}.items()
    assert sum(accepted for _, accepted, _ in report["per_second"]) == 3
    assert sum(refused for _, _, refused in report["per_second"]) == 2


@pytest.mark.parametrize("form", ["seconds", "date", "none", "garbage", "hours"])
def test_retry_after_comes_in_the_configured_form(
    sandbox: SandboxProcess, http: requests.Session, form: str
) -> None:
    limit = {"name": "l", "count": 1, "window_s": 1000, "shape": "sliding_window"}
    sandbox.post("config", {"limits": [limit], "retry_after": form})
    http.get(f"{sandbox.url}/things", timeout=10)

    refused = http.get(f"{sandbox.url}/things", timeout=10)

    value = refused.headers.get("Retry-After", "")
    assert refused.json()["code"] == "too.many.requests.retry.after"
    match form:
        case "seconds":
            assert 900 < int(value) <= 1000
            assert f"[{value}] seconds" in refused.json()["message"]
        case "date":
            now_s = sandbox.get("health")["t_us"] / 1e6
            assert 900 < parsedate_to_datetime(value).timestamp() - now_s < 1001
        case _:
            assert value == {"none": "", "garbage": "soon", "hours": "7200"}[form]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("x-ratelimit", ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")),
        ("ratelimit-fields", ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")),
        ("inin", ("inin-ratelimit-allowed", "inin-ratelimit-count", "inin-ratelimit-reset")),
    ],
)
def test_rate_headers_tell_the_tightest_limit(
    sandbox: SandboxProcess, http: requests.Session, family: str, names: tuple[str, str, str]
) -> None:
    wide = {"name": "wide", "count": 100, "window_s": 3600, "shape": "fixed_window"}
    tight = {"name": "tight", "count": 5, "window_s": 1000, "shape": "fixed_window"}
    sandbox.post("config", {"limits": [wide, tight], "rate_headers": family})

    for _ in range(2):
        answer = http.get(f"{sandbox.url}/things", timeout=10)

    count, second, reset_s = (int(answer.headers[name]) for name in names)
    assert (count, second) == (5, 2 if family == "inin" else 3)
    assert 900 < reset_s <= 1000


def test_the_list_of_rate_headers_tells_every_limit(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    wide = {"name": "wide", "count": 100, "window_s": 3600, "shape": "fixed_window"}
    tight = {"name": "tight", "count": 5, "window_s": 1000, "shape": "fixed_window"}
    sandbox.post("config", {"limits": [wide, tight], "rate_headers": "ratelimit"})

    answer = http.get(f"{sandbox.url}/things", timeout=10)

    assert answer.headers["RateLimit"] == '"wide";r=99;t=3600, "tight";r=4;t=1000'
    assert answer.headers["RateLimit-Policy"] == '"wide";q=100;w=3600, "tight";q=5;w=1000'


def test_a_concurrent_limit_counts_the_calls_that_are_in_work(
    sandbox: SandboxProcess, http: requests.Session, wait_until: Wait
) -> None:
    limit = {"name": "uploads", "count": 2, "shape": "concurrent", "match": "POST /uploads"}
    sandbox.post("config", {"limits": [limit], "latency_ms": 1000})

    def upload() -> int:
        headers = dict(http.headers)
        return requests.post(f"{sandbox.url}/uploads", headers=headers, timeout=10).status_code

    with ThreadPoolExecutor() as pool:
        in_work = [pool.submit(upload) for _ in range(2)]
        wait_until(lambda: sandbox.get("health")["in_flight"] == 2)
        turned_away = upload()
        statuses = [upload.result() for upload in in_work]
    sandbox.post("config", {"latency_ms": 0})
    afterwards = [upload() for _ in range(3)]

    (window,) = sandbox.get("report")["windows"]
    assert (statuses, turned_away, afterwards) == ([201, 201], 429, [201] * 3)
    assert (window["max_accepted"], window["max_arrived"], window["refused"]) == (2, 3, 1)


def test_the_report_tells_what_another_sender_left_of_a_limit(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    # One call of the other's comes with our first one, the next one in half an hour.
    limit = {"name": "l", "count": 4, "window_s": 3600, "shape": "fixed_window"}
    sandbox.post("config", {"limits": [{**limit, "other_share": 0.5}]})

    statuses = [http.get(f"{sandbox.url}/things", timeout=10).status_code for _ in range(5)]

    report = sandbox.get("report")
    (window,) = report["windows"]
    assert (statuses, report["requests"]) == ([200, 200, 200, 429, 429], 5)
    assert [row[1:] for row in window["left"]] == [[3, 3, 2]]


def test_a_contact_is_made_then_repeated_then_changed(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    for phone in ("1", "1", "1", "2"):
        answer = http.post(sandbox.url + LIST, json=[contact("c-1", phone)], timeout=10)

    report = sandbox.get("report")
    assert answer.json()[0]["id"] == "c-1"
    assert [report[name] for name in ("effects", "updates", "repeats")] == [2, 1, 2]
    assert report["duplicate_list"] == [["POST", LIST, "c-1", 2]]


def test_a_contact_without_an_id_is_new_each_time(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    ids = {
        http.post(sandbox.url + LIST, json=[contact(None)], timeout=10).json()[0]["id"]
        for _ in range(2)
    }

    assert len(ids) == 2
    assert sandbox.get("report")["effects"] == 2


def test_contacts_are_read_one_by_one_and_by_ids_once_the_lag_is_over(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"auth": False, "read_lag_s": 60})
    http.post(sandbox.url + LIST, json=[contact("c-1", "7"), contact("c-2")], timeout=10)

    def look() -> tuple[int, list[str]]:
        one = http.get(f"{sandbox.url}{LIST}/c-1", timeout=10)
        many = http.post(f"{sandbox.url}{LIST}/bulk", json=["c-1", "c-9"], timeout=10)
        return one.status_code, [entity["data"]["phone"] for entity in many.json()]

    before = look()
    sandbox.post("clock", {"advance_s": 60})

    assert (before, look()) == ((404, []), (200, ["7"]))
    assert sandbox.get("report")["effects"] == 2


@pytest.mark.parametrize(
    ("contacts", "status"),
    [
        ([contact(f"c-{n}") for n in range(1001)], 400),
        ([contact("c-1", "9" * 512_000)], 413),
        ([contact("c-1"), contact("c-2", entity="l-2")], 400),
        ([{"contactListId": "l-1"}], 400),
        (contact("c-1"), 400),
    ],
)
def test_a_refused_batch_adds_none_of_its_contacts(
    sandbox: SandboxProcess, http: requests.Session, contacts: object, status: int
) -> None:
    answer = http.post(sandbox.url + LIST, json=contacts, timeout=10)

    assert answer.status_code == status
    assert sandbox.get("report")["effects"] == 0


def test_strict_lists_refuse_contacts_for_an_unknown_list(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"strict_lists": True})
    lists = f"{sandbox.url}/api/v2/outbound/contactlists"
    list_id = http.post(lists, json={"name": "n"}, timeout=10).json()["id"]

    def status(entity: str) -> int:
        url = f"{lists}/{entity}/contacts"
        return http.post(url, json=[contact("c-1", entity=entity)], timeout=10).status_code

    assert (status("l-1"), status(list_id)) == (404, 200)


def test_a_campaign_is_made_found_by_name_started_and_its_second_start_is_a_duplicate(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    url = sandbox.url + CAMPAIGNS
    campaign = http.post(url, json={"name": "spring"}, timeout=10).json()
    http.post(url, json={"name": "spring 2"}, timeout=10)

    exact = http.get(url, params={"name": "spring", "filterType": "Equals"}, timeout=10).json()
    prefix = http.get(url, params={"name": "spring", "pageSize": "1"}, timeout=10).json()
    for _ in range(2):
        http.post(f"{url}/{campaign['id']}/start", timeout=10)
    unknown = http.post(f"{url}/none/start", timeout=10)

    now = http.get(f"{url}/{campaign['id']}", timeout=10).json()
    assert [entity["id"] for entity in exact["entities"]] == [campaign["id"]]
    assert (len(prefix["entities"]), prefix["total"], prefix["pageCount"]) == (1, 2, 2)
    assert (campaign["version"], campaign["campaignStatus"]) == (1, "off")
    assert (now["version"], now["campaignStatus"]) == (3, "on")
    assert unknown.status_code == 404
    start = [["POST", f"{CAMPAIGNS}/{campaign['id']}/start", campaign["id"], 2]]
    assert sandbox.get("report")["duplicate_list"] == start


def test_any_write_has_one_effect_on_what_body_header_or_key_names(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    url = f"{sandbox.url}/things/7"
    body = http.post(url, json={"business_id": "b"}, timeout=10)
    header = http.put(url, data=b"\x00raw", headers={"X-Business-Id": "h"}, timeout=10)
    neither = http.delete(url, headers={"Idempotency-Key": "k"}, timeout=10)

    answers = (body, header, neither)
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    ids = [answer.json()["business_id"] for answer in answers]
    assert ids == ["b", "h", "k"]
    assert [effect["business_id"] for effect in sandbox.get("effects")] == ids


def test_a_read_has_no_effect_and_finds_what_was_written_by_business_id(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    url = f"{sandbox.url}/things"
    written = http.post(url, json={"business_id": "b"}, timeout=10).json()

    page = http.get(url, params={"business_id": "b"}, timeout=10).json()
    nothing = http.get(url, params={"business_id": "c"}, timeout=10).json()
    bare = http.head(url, timeout=10)

    assert page["entities"] == [{"id": written["id"], "business_id": "b"}]
    assert (nothing["total"], bare.status_code, bare.content) == (0, 200, b"")
    assert sandbox.get("report")["effects"] == 1


def test_what_was_written_is_seen_by_reads_after_the_lag(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"read_lag_s": 60})
    url = f"{sandbox.url}/things"
    http.post(url, json={"business_id": "b"}, timeout=10)

    def seen() -> int:
        total: int = http.get(url, params={"business_id": "b"}, timeout=10).json()["total"]
        return total

    before = seen()
    sandbox.post("clock", {"advance_s": 61})

    assert (before, seen()) == (0, 1)


def test_where_business_ids_are_unique_a_second_write_is_refused_with_the_id_of_the_first(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"unique": "POST /things", "idempotency": "off"})
    url = f"{sandbox.url}/things"
    first = http.post(url, json={"business_id": "b"}, timeout=10).json()

    second = http.post(url, json={"business_id": "b"}, timeout=10)
    elsewhere = http.post(f"{url}/else", json={"business_id": "b"}, timeout=10)

    assert (second.status_code, elsewhere.status_code) == (409, 201)
    assert (second.json()["code"], second.json()["id"]) == ("already.exists", first["id"])
    assert sandbox.get("report")["duplicates"] == 0


@pytest.mark.parametrize("path", ["things", "api/v2/outbound/campaigns"])
def test_distinct_calls_that_name_nothing_are_no_duplicates_but_one_sent_twice_is(
    sandbox: SandboxProcess, http: requests.Session, path: str
) -> None:
    sandbox.post("config", {"idempotency": "off"})

    def write(key: str) -> None:
        headers = {"Idempotency-Key": key} if key else {}
        http.post(f"{sandbox.url}/{path}", json={}, headers=headers, timeout=10)

    for key in ("k-1", "k-2", "", ""):
        write(key)
    distinct = sandbox.get("report")["duplicates"]
    write("k-1")

    assert (distinct, sandbox.get("report")["duplicates"]) == (0, 1)
