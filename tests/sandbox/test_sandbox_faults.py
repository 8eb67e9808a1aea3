"""Each way to misbehave: what the caller sees, and whether the effect happened."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from orchestration.sandbox.calls import Call
from orchestration.sandbox.config import Config, Fault, When
from orchestration.sandbox.faults import FaultBook

if TYPE_CHECKING:
    from orchestration.sandbox import SandboxProcess

Wait = Callable[[Callable[[], object]], None]


def post(sandbox: SandboxProcess, http: requests.Session, name: str = "a") -> requests.Response:
    return http.post(
        f"{sandbox.url}/orders",
        json={"business_id": name},
        headers={"Idempotency-Key": f"key-{name}"},
        timeout=10,
        allow_redirects=False,
    )


def order(sandbox: SandboxProcess, **fault: object) -> None:
    """Order one fault for the next call."""
    sandbox.post("faults", [{"times": 1, **fault}])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("429", 429),
        ("5xx_before", 503),
        ("400", 400),
        ("401", 401),
        ("403", 403),
        ("404", 404),
        ("409", 409),
        ("redirect", 302),
    ],
)
def test_a_refusal_on_command_has_its_status_and_no_effect(
    sandbox: SandboxProcess, http: requests.Session, kind: str, status: int
) -> None:
    order(sandbox, kind=kind)

    refused, fine = post(sandbox, http), post(sandbox, http)

    report = sandbox.get("report")
    assert (refused.status_code, fine.status_code) == (status, 201)
    assert (report["effects"], report["replays"]) == (1, 0)
    assert report["by_fault"] == {kind: 1}


@pytest.mark.parametrize("kind", ["drop_before", "hang_before", "drop_after", "hang", "truncated"])
def test_a_lost_answer_is_an_error_and_only_its_kind_tells_if_the_effect_happened(
    sandbox: SandboxProcess, http: requests.Session, kind: str
) -> None:
    order(sandbox, kind=kind, hang_s=0.02)

    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        post(sandbox, http)
    effects = sandbox.get("counts")["effects"]
    repeated = post(sandbox, http)

    happened = not kind.endswith("_before")
    assert effects == happened
    assert (repeated.status_code, "Idempotency-Replayed" in repeated.headers) == (201, happened)
    assert sandbox.get("report")["effects"] == 1


def test_a_5xx_after_the_effect_is_counted_as_an_effect(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    order(sandbox, kind="5xx_after", status=502, retry_after=3)

    failed, repeated = post(sandbox, http), post(sandbox, http)

    assert (failed.status_code, failed.headers["Retry-After"]) == (502, "3")
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert sandbox.get("report")["effects"] == 1


def test_bad_json_is_a_success_that_cannot_be_read(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    order(sandbox, kind="bad_json")

    answer = post(sandbox, http)

    assert answer.status_code == 201
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert sandbox.get("report")["effects"] == 1


def test_a_slow_body_drips_to_its_end(sandbox: SandboxProcess, http: requests.Session) -> None:
    order(sandbox, kind="slow_body", slow_s=0.05)

    answer = post(sandbox, http)

    assert answer.json()["business_id"] == "a"


@pytest.mark.parametrize("gzip", [False, True])
def test_a_huge_body_has_the_ordered_size_and_travels_packed_if_asked(
    sandbox: SandboxProcess, http: requests.Session, *, gzip: bool
) -> None:
    order(sandbox, kind="huge_body", size_mb=2.5, gzip=gzip)

    answer = post(sandbox, http)

    assert len(answer.json()) == 2_500_000 - 2
    assert answer.headers.get("Content-Encoding") == ("gzip" if gzip else None)


def test_a_caller_that_hangs_up_during_a_hang_leaves_nothing_behind(
    sandbox: SandboxProcess, http: requests.Session, wait_until: Wait
) -> None:
    order(sandbox, kind="hang", hang_s=3600)

    with pytest.raises(requests.ReadTimeout):
        http.post(f"{sandbox.url}/orders", json={}, timeout=0.2)

    wait_until(lambda: sandbox.get("health")["in_flight"] == 0)
    assert sandbox.get("report")["by_status"] == {"0": 1}


@pytest.mark.parametrize("value", [None, "-5", "nan", "7200", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_429_on_command_carries_the_ordered_retry_after(
    sandbox: SandboxProcess, http: requests.Session, value: str | None
) -> None:
    order(sandbox, kind="429", retry_after=value)

    assert post(sandbox, http).headers.get("Retry-After") == value


def test_a_403_that_says_when_to_come_again_is_a_limit_and_not_a_permission(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("faults", [{"kind": "403", "times": 1, "retry_after": 40}, {"kind": "403"}])

    limited, forbidden = post(sandbox, http), post(sandbox, http)

    assert (limited.status_code, limited.headers["Retry-After"]) == (403, "40")
    assert limited.json()["code"] == "rate.limit.exceeded"
    assert "Retry-After" not in forbidden.headers
    assert forbidden.json()["code"] == "missing.permissions"


def test_a_storm_refuses_every_call_until_it_is_over(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("storm", {"seconds": 3600, "retry_after": 5})
    during = [post(sandbox, http) for _ in range(2)]

    sandbox.post("storm", {"seconds": 0})
    after = post(sandbox, http)

    refusals = [(answer.status_code, answer.headers["Retry-After"]) for answer in during]
    assert refusals == [(429, "5")] * 2
    assert after.status_code == 201
    assert sandbox.get("report")["by_fault"] == {"storm": 2}


def test_a_storm_hits_exactly_its_share_of_the_calls_and_need_not_say_for_how_long(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("storm", {"seconds": 3600, "share": 0.7, "retry_after": None})

    answers = [post(sandbox, http, f"{number}") for number in range(20)]

    assert [answer.status_code for answer in answers].count(429) == 14
    assert not any("Retry-After" in answer.headers for answer in answers)
    assert sandbox.get("report")["by_fault"] == {"storm": 14}


def test_a_storm_on_one_route_leaves_the_others_alone(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("storm", {"seconds": 3600, "match": "POST /daily", "retry_after": 7200})

    daily = http.post(f"{sandbox.url}/daily", timeout=10)
    other = post(sandbox, http)

    assert (daily.status_code, daily.headers["Retry-After"]) == (429, "7200")
    assert other.status_code == 201


def test_the_token_endpoint_fails_only_when_a_rule_names_it(sandbox: SandboxProcess) -> None:
    def status() -> int:
        form = {"grant_type": "client_credentials"}
        url = f"{sandbox.url}/oauth/token"
        return requests.post(url, form, auth=("demo", "demo-secret"), timeout=10).status_code

    sandbox.post("faults", [{"kind": "5xx_before"}])
    unnamed = status()
    sandbox.post("faults", [{"kind": "5xx_before", "match": "POST /oauth/token"}])
    named = status()

    assert (unnamed, named) == (200, 503)


def a_call(method: str = "POST", path: str = "/orders", client: str = "", t_us: int = 0) -> Call:
    start = RequestStartLine(method, path, "HTTP/1.1")
    request = HTTPServerRequest(start_line=start, headers=HTTPHeaders(Host="sandbox"))
    call = Call(request, Config(), t_us, path)
    call.client = client
    return call


def hits(fault: Fault, names: list[str]) -> list[int]:
    """Return the positions of the calls that a rule hits; each call has one business id."""
    book = FaultBook([fault], since_us=0)
    return [
        index
        for index, name in enumerate(names)
        if book.pick(a_call(), lambda name=name: (name,))  # type: ignore[misc]
    ]


def test_a_rule_hits_just_the_calls_it_names() -> None:
    names = ["a", "b", "a", "b", "a", "b"]

    assert hits(Fault(kind="400"), names) == [0, 1, 2, 3, 4, 5]
    assert hits(Fault(kind="400", match="POST /other"), names) == []
    assert hits(Fault(kind="400", times=2), names) == [0, 1]
    assert hits(Fault(kind="400", per_business_id_times=1), names) == [0, 1]
    assert hits(Fault(kind="400", when=When(every=3)), names) == [2, 5]
    assert hits(Fault(kind="400", when=When(first=3)), names) == [0, 1, 2]
    assert hits(Fault(kind="400", when=When(business_ids=("b",))), names) == [1, 3, 5]
    assert hits(Fault(kind="400", when=When(business_ids=("b",), every=2)), names) == [3]
    assert hits(Fault(kind="400", when=When(id_match="[b-z]")), names) == [1, 3, 5]
    assert hits(Fault(kind="400", when=When(id_match="b*", business_ids=("a",))), names) == []


def test_a_fault_can_be_bound_to_clients_and_to_a_time_after_its_order() -> None:
    outage = When(from_s=2, until_s=5, clients=("acme", "other"))
    book = FaultBook([Fault(kind="5xx_before", when=outage)], since_us=10_000_000)

    def is_hit(second: float, client: str = "acme") -> bool:
        call = a_call(client=client, t_us=round(second * 1e6))
        return book.pick(call, tuple) is not None

    assert [is_hit(second) for second in (11.9, 12, 14.9, 15)] == [False, True, True, False]
    assert (is_hit(13, "other"), is_hit(13, "third"), is_hit(13, "")) == (True, False, False)


def test_an_outage_ends_by_itself_and_hits_the_rows_of_its_client_alone(
    sandbox: SandboxProcess, http: requests.Session, wait_until: Wait
) -> None:
    of_another = {"kind": "400", "when": {"clients": ["another"]}}
    sandbox.post("faults", [of_another, {"kind": "5xx_before", "when": {"until_s": 0.3}}])

    failed = post(sandbox, http)
    wait_until(lambda: post(sandbox, http).status_code == 201)

    assert failed.status_code == 503
    assert sandbox.get("report")["effects"] == 1


def test_the_page_of_a_proxy_is_the_same_to_the_byte_and_tells_nothing_of_the_api(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"rate_headers": "x-ratelimit"})
    sandbox.post("faults", [{"kind": "page", "times": 2}])

    pages = [post(sandbox, http, name) for name in ("a", "b")]

    assert [page.status_code for page in pages] == [502, 502]
    assert len({page.content for page in pages}) == 1
    assert pages[0].headers["Content-Type"] == "text/html"
    assert "ININ-Correlation-Id" not in pages[0].headers
    assert post(sandbox, http).status_code == 201  # nothing was done, and no key remembers it


def test_a_reset_is_one_of_tcp_before_the_effect(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    order(sandbox, kind="reset")

    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        post(sandbox, http)

    assert sandbox.get("counts")["effects"] == 0
    assert post(sandbox, http).status_code == 201


def test_a_closed_port_refuses_to_connect_for_a_while_and_nothing_is_forgotten(
    sandbox: SandboxProcess, http: requests.Session, wait_until: Wait
) -> None:
    sandbox.post("faults", [{"kind": "hang_before", "match": "GET /slow", "hang_s": 3600}])
    with pytest.raises(requests.ReadTimeout):
        http.get(f"{sandbox.url}/slow", timeout=0.1)
    post(sandbox, http)

    sandbox.post("refuse", {"seconds": 0.5})
    wait_until(lambda: not connects(sandbox))
    wait_until(lambda: connects(sandbox))

    assert post(sandbox, http).headers["Idempotency-Replayed"] == "true"
    assert sandbox.get("report")["effects"] == 1
    with pytest.raises(ValueError, match="seconds"):
        sandbox.post("refuse", {"seconds": 0})


def connects(sandbox: SandboxProcess) -> bool:
    """Tell whether somebody listens; a connection that is kept would not."""
    address = urlsplit(sandbox.url)
    try:
        with socket.create_connection((address.hostname, address.port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False


def test_a_probability_is_kept_and_repeats_with_its_seed() -> None:
    names = ["a"] * 2000

    runs = [hits(Fault(kind="400", when=When(probability=0.3), seed=s), names) for s in (1, 1, 2)]

    assert runs[0] == runs[1] != runs[2]
    assert 500 < len(runs[0]) < 700


def test_the_first_rule_that_hits_decides() -> None:
    book = FaultBook([Fault(kind="400", times=1), Fault(kind="404")], since_us=0)

    kinds = [fault.kind for _ in range(2) if (fault := book.pick(a_call("GET", "/"), tuple))]

    assert kinds == ["400", "404"]


def test_a_caller_that_hangs_up_too_early_has_its_effect_all_the_same(
    sandbox: SandboxProcess, http: requests.Session, wait_until: Wait
) -> None:
    sandbox.post("config", {"latency_ms": 300})

    with contextlib.suppress(requests.ReadTimeout):
        http.post(f"{sandbox.url}/orders", json={"business_id": "a"}, timeout=0.1)
    wait_until(lambda: sandbox.get("counts")["effects"])

    assert sandbox.get("report")["by_status"] == {"201": 1}
