"""The Genesys SDK through a governed session: what its users expect, and the quota.

Each test runs with a stand-in, and with the SDK itself where it is installed; REQUIRE_GENESYS_SDK=1
makes it a failure that it is not.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import requests

from tests.support.fleet import Fleet
from workers.errors import Throttled, UsageError
from workers.session.genesys_sdk import PACKAGE, governed_api_client

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND_IN = Path(__file__).parents[1] / "support/stand_in"
WANTED = os.environ.get("REQUIRE_GENESYS_SDK") == "1"


def unload() -> dict[str, Any]:
    names = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture(params=["stand-in", "installed"], scope="module")
def sdk(request: pytest.FixtureRequest) -> Iterator[Any]:
    before = unload()
    patch = pytest.MonkeyPatch()
    if request.param == "stand-in":
        patch.syspath_prepend(STAND_IN)
    elif not find_spec(PACKAGE):
        (pytest.fail if WANTED else pytest.skip)('install "headgate[genesys]"')
    yield importlib.import_module(PACKAGE)
    patch.undo()
    unload()
    sys.modules.update(before)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as it:
        yield it


@pytest.fixture
def api(sdk: Any, fleet: Fleet) -> Any:
    del sdk
    return governed_api_client("acme", config=str(fleet.config), wait_s=5)


def send(api: Any, method: str = "POST", path: str = "/things/1", **more: Any) -> Any:
    more = {"body": {"business_id": "a"}, "header_params": {}, **more}
    signed = ["PureCloud OAuth"]
    return api.call_api(path, method, auth_settings=signed, response_type="object", **more)


def error_of(sdk: Any) -> type[Exception]:
    error: type[Exception] = importlib.import_module(f"{sdk.__name__}.rest").ApiException
    return error


def test_a_call_carries_our_token_and_a_key_and_is_answered(fleet: Fleet, api: Any) -> None:
    api.access_token = "a token of the SDK"

    answer = send(api)

    assert answer["id"]
    (seen,) = fleet.effects()
    assert seen["business_id"] == "a"
    assert seen["key"]


def test_a_refusal_is_the_exception_of_the_sdk(sdk: Any, fleet: Fleet, api: Any) -> None:
    fleet.sandbox.post("faults", [{"kind": "404"}])

    with pytest.raises(error_of(sdk)) as told:
        send(api, "GET", body=None)

    error: Any = told.value
    assert error.status == 404
    assert error.reason == "Not Found"
    assert "not.found" in error.body
    assert error.headers["CONTENT-type"].startswith("application/json")


def test_a_429_is_waited_for_below_the_sdk_and_then_told(fleet: Fleet, api: Any) -> None:
    fleet.sandbox.post("storm", {"seconds": 60, "match": "* *", "retry_after": 60})

    for _ in range(2):
        with pytest.raises(Throttled) as told:
            send(api)

    assert told.value.wait_s > 50
    assert fleet.report()["refused_429"] == 1


def test_calls_of_the_sdk_spend_the_quota_of_the_client(sdk: Any) -> None:
    del sdk
    with Fleet(limits=[{"name": "app", "count": 10}]) as fleet:
        api = governed_api_client("acme", config=str(fleet.config), wait_s=10)
        for _ in range(20):
            send(api)

        assert fleet.report()["requests"] == 20
        assert fleet.report()["refused_429"] == 0


def test_a_revoked_token_is_renewed(fleet: Fleet, api: Any) -> None:
    send(api)
    fleet.sandbox.post("revoke", {})

    assert send(api, body={"business_id": "b"})["id"]


def test_an_answer_that_is_lost_is_never_asked_for_again(fleet: Fleet, api: Any) -> None:
    fleet.sandbox.post("faults", [{"kind": "drop_after"}])

    with pytest.raises(requests.ConnectionError, match="may have been executed"):
        send(api)

    assert fleet.report()["requests"] == 1


def test_a_5xx_with_retry_after_is_not_repeated(sdk: Any, fleet: Fleet, api: Any) -> None:
    fleet.sandbox.post("faults", [{"kind": "5xx_before", "retry_after": 0}])

    with pytest.raises(error_of(sdk)):
        send(api)

    assert fleet.report()["requests"] == 1


def test_the_sdk_asks_for_no_token(fleet: Fleet, api: Any) -> None:
    with pytest.raises(UsageError, match="token is Headgate's"):
        api.get_client_credentials_token("acme", "a-secret")

    assert fleet.report()["requests"] == 0


def test_its_own_repetition_after_a_401_is_refused(fleet: Fleet, api: Any) -> None:
    fleet.sandbox.post("faults", [{"kind": "401"}])
    api.client_id, api.client_secret, api.refresh_token = "acme", "a-secret", "a-token"

    with pytest.raises(UsageError, match="set no refresh_token"):
        send(api)

    assert fleet.report()["requests"] == 2  # one with the renewed token of the fleet


def test_another_host_is_refused(fleet: Fleet, api: Any) -> None:
    api.host = f"{fleet.sandbox.url}1"

    with pytest.raises(UsageError, match="another host"):
        send(api)

    assert fleet.report()["requests"] == 0


def test_hooks_see_the_call_and_its_answer(fleet: Fleet, api: Any) -> None:
    seen = []

    def before(options: Any) -> Any:
        options.headers["Idempotency-Key"] = "a-key-of-the-hook"
        return options

    def after(answer: Any) -> Any:
        seen.append(answer.status)
        return answer

    api.get_http_client().set_pre_request_hook(before)
    api.get_http_client().set_post_request_hook(after)
    send(api)

    assert seen == [201]
    assert fleet.effects()[0]["key"] == "a-key-of-the-hook"


def test_a_missing_sdk_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    before = unload()
    monkeypatch.setitem(sys.modules, PACKAGE, None)

    with pytest.raises(UsageError, match=re.escape('install "headgate[genesys]"')):
        governed_api_client("acme")

    sys.modules.update(before)


class Recorder:
    """A provider that writes down what it gets; each answer is an empty JSON object."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, bytes]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kind = self.headers["Content-Type"]
                failpoint = re.search("failpoint=(.*)", kind)
                if failpoint:  # it differs each time
                    body = body.replace(failpoint[1].encode(), b"-")
                    kind = kind.partition(";")[0]
                seen.append((self.command, self.path, kind, body))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 -- its names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def each_way_to_send(api: Any, file: Path) -> None:
    send(api, "GET", body=None, query_params={"q": "a b&c", "n": 1})
    send(api, "POST", body={"name": "Köln", "none": None})
    send(api, "POST", body=None)
    send(api, "PUT", "/things/{id}", path_params={"id": "4711"}, query_params={"x": "ü"})
    send(api, "PATCH", body=[1, 2])
    send(api, "DELETE", body=None, query_params={"force": "true"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    send(api, body=None, post_params={"a": "1 2", "b": "&"}, header_params=dict(form))
    kind = {"Content-Type": "multipart/form-data"}
    send(api, body=None, files={"file": str(file)}, header_params=dict(kind))


def test_calls_leave_as_they_are_given(sdk: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"\x00sound")
    with Recorder() as there, Fleet(client={"base_url": there.url}) as fleet:
        each_way_to_send(governed_api_client("acme", config=str(fleet.config)), file)
        ours = list(there.seen)

        kind = "application/json"
        assert ours[:7] == [
            ("GET", "/things/1?q=a+b%26c&n=1", kind, b""),
            ("POST", "/things/1", kind, b'{"name": "K\\u00f6ln", "none": null}'),
            ("POST", "/things/1", kind, b"null"),
            ("PUT", "/things/4711?x=%C3%BC", kind, b'{"business_id": "a"}'),
            ("PATCH", "/things/1", kind, b"[1, 2]"),
            ("DELETE", "/things/1?force=true", kind, b""),
            ("POST", "/things/1", "application/x-www-form-urlencoded", b"a=1+2&b=%26"),
        ]
        assert b"\x00sound" in ours[7][3]
        if STAND_IN not in Path(sdk.__file__).parents:  # the same bytes as by its own client
            there.seen.clear()
            each_way_to_send(sdk.ApiClient(host=there.url), file)
            assert there.seen == ours


@pytest.mark.parametrize("sdk", ["installed"], indirect=True)
def test_an_api_of_the_sdk_writes_contacts(sdk: Any, fleet: Fleet, api: Any) -> None:
    outbound = sdk.OutboundApi(api)
    made = outbound.post_outbound_contactlists({"name": "Spring", "columnNames": ["phone"]})

    contact = {"id": "c1", "contactListId": made.id, "data": {"phone": "+15550100"}}
    (added,) = outbound.post_outbound_contactlist_contacts(made.id, [contact])

    assert added.id == "c1"
    assert "c1" in {it["business_id"] for it in fleet.effects()}
