"""Prompts and response assets: made, sent as files, transcoded, found."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from orchestration.sandbox import SandboxProcess

PROMPTS = "/api/v2/architect/prompts"
ASSETS = "/api/v2/responsemanagement/responseassets"
SOUND = b"RIFF" + bytes(range(256)) * 300


class Caller:
    """A caller that makes prompts and assets and sends their files."""

    def __init__(self, sandbox: SandboxProcess, http: requests.Session) -> None:
        self.sandbox, self._http = sandbox, http

    def call(self, method: str, path: str, body: object = None, **params: object) -> Any:
        url = self.sandbox.url + path
        return self._http.request(method, url, json=body, params=params, timeout=10)

    def prompt(self, name: str = "hello", language: str = "en-us") -> str:
        """Make a prompt with a resource; return the resource's path."""
        prompt = self.call("POST", PROMPTS, {"name": name}).json()
        path = f"{PROMPTS}/{prompt['id']}/resources"
        assert self.call("POST", path, {"language": language}).json()["uploadStatus"] == "created"
        return f"{path}/{language}"

    def announce(self, name: str, **more: object) -> Any:
        return self.call("POST", f"{ASSETS}/uploads", {"name": name, **more}).json()

    def search(self, name: str) -> list[str]:
        query = [{"type": "TERM", "fields": ["name"], "value": name}]
        body = {"pageSize": 25, "pageNumber": 1, "query": query}
        page = self.call("POST", f"{ASSETS}/search", body).json()
        assert page["total"] == len(page["results"])
        return [asset["id"] for asset in page["results"]]

    def advance(self, seconds: float) -> None:
        self.sandbox.post("clock", {"advance_s": seconds})


def send(issued: dict[str, Any], data: bytes = SOUND) -> int:
    """Send a file to a signed URL, with its headers; return the status."""
    answer = requests.put(issued["url"], data, headers=issued["headers"], timeout=10)
    return answer.status_code


@pytest.fixture
def caller(sandbox: SandboxProcess, http: requests.Session) -> Caller:
    return Caller(sandbox, http)


def test_a_prompts_audio_is_created_then_uploaded_then_transcoded(caller: Caller) -> None:
    caller.sandbox.post("config", {"transcode_s": 5})
    path = caller.prompt()

    def status() -> str:
        return str(caller.call("GET", path).json()["uploadStatus"])

    steps = [status()]
    assert send(caller.call("POST", f"{path}/uploads").json()) == 200
    steps.append(status())
    caller.advance(5)
    steps.append(status())

    assert steps == ["created", "uploaded", "transcoded"]
    (prompt,) = caller.call("GET", PROMPTS, name="hello").json()["entities"]
    assert [resource["uploadStatus"] for resource in prompt["resources"]] == ["transcoded"]


def test_the_journal_tells_size_and_md5_of_a_file_that_arrived(caller: Caller) -> None:
    path = caller.prompt()
    send(caller.call("POST", f"{path}/uploads").json())

    last = caller.sandbox.get("effects")[-1]

    assert last["business_id"] == "hello/en-us"
    md5 = hashlib.md5(SOUND, usedforsecurity=False).hexdigest()
    assert (last["size"], last["md5"]) == (len(SOUND), md5)
    transfers = caller.sandbox.get("report")["transfers"]
    expected = {"requests": 1, "by_status": {"200": 1}, "files": 1, "bytes": len(SOUND), "leaks": 0}
    assert transfers == expected


def test_a_file_that_is_sent_again_is_a_repeat_and_another_one_in_its_place_a_double(
    caller: Caller,
) -> None:
    path = caller.prompt()
    send(caller.call("POST", f"{path}/uploads").json())
    send(caller.call("POST", f"{path}/uploads").json())
    repeated = caller.sandbox.get("report")
    send(caller.call("POST", f"{path}/uploads").json(), b"other")

    report = caller.sandbox.get("report")
    assert (repeated["repeats"], repeated["duplicates"]) == (1, 0)
    assert (report["duplicates"], report["transfers"]["files"]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "bad_files"),
    [("hello-transcode-fails", None), ("hello", "hello/en-us"), ("hello", "hello/*")],
)
def test_a_file_that_is_marked_by_name_or_command_fails_until_the_mark_is_gone(
    caller: Caller, name: str, bad_files: str | None
) -> None:
    if bad_files:
        caller.sandbox.post("config", {"bad_files": bad_files})
    path = caller.prompt(name)
    send(caller.call("POST", f"{path}/uploads").json())
    failed = caller.call("GET", path).json()["uploadStatus"]
    caller.sandbox.post("config", {"bad_files": ""})
    send(caller.call("POST", f"{path}/uploads").json())

    assert failed == "transcodeFailed"
    assert caller.call("GET", path).json()["uploadStatus"] == "transcoded"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PROMPTS, {}, 400),
        (f"{PROMPTS}/none/resources", {"language": "en-us"}, 404),
        (f"{PROMPTS}/none/resources/en-us/uploads", None, 404),
    ],
)
def test_a_prompt_needs_a_name_and_its_parts_need_it(
    caller: Caller, path: str, body: object, status: int
) -> None:
    assert caller.call("POST", path, body).status_code == status


def test_a_prompt_has_one_resource_a_language(caller: Caller) -> None:
    path = caller.prompt().rpartition("/")[0]

    statuses = [
        caller.call("POST", path, {"language": language}).status_code
        for language in ("de-de", "de-de")
    ]

    assert statuses == [200, 409]
    assert caller.call("POST", path, {}).status_code == 400


@pytest.mark.parametrize(("rule", "status", "doubles"), [("allowed", 200, 1), ("refused", 409, 0)])
def test_a_second_prompt_of_a_name_is_a_double_or_refused(
    caller: Caller, rule: str, status: int, doubles: int
) -> None:
    caller.sandbox.post("config", {"duplicate_names": rule})

    answers = [caller.call("POST", PROMPTS, {"name": "hello"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, status]
    assert caller.sandbox.get("report")["duplicates"] == doubles


def test_prompts_are_found_by_any_of_several_names_once_the_lag_is_over(caller: Caller) -> None:
    caller.sandbox.post("config", {"read_lag_s": 60})
    for name in ("a", "b", "c"):
        path = caller.prompt(name)

    def look() -> tuple[list[str], int]:
        page = caller.call("GET", PROMPTS, name=["a", "c"]).json()
        return [entity["name"] for entity in page["entities"]], caller.call("GET", path).status_code

    before = look()
    caller.advance(60)

    assert (before, look()) == (([], 404), (["a", "c"], 200))


def test_an_asset_is_there_once_its_file_has_arrived(caller: Caller) -> None:
    caller.sandbox.post("config", {"transcode_s": 5, "read_lag_s": 0})
    issued = caller.announce("menu.png")

    def look() -> list[Any]:
        status = caller.call("GET", f"{ASSETS}/status/{issued['id']}").json()["status"]
        read = caller.call("GET", f"{ASSETS}/{issued['id']}").status_code
        return [status, read, caller.search("menu.png") == [issued["id"]]]

    seen = [look()]
    assert send(issued) == 200
    seen.append(look())
    caller.advance(5)
    seen.append(look())

    waits = ["InProgress", 404, False]
    assert seen == [waits, waits, ["Uploaded", 200, True]]
    assert caller.search("menu") == []
    size = caller.call("GET", f"{ASSETS}/{issued['id']}").json()["contentLength"]
    assert size == len(SOUND)


def test_an_asset_that_failed_tells_why_and_is_not_there(caller: Caller) -> None:
    issued = caller.announce("transcode-fails.png")
    send(issued)

    shown = caller.call("GET", f"{ASSETS}/status/{issued['id']}").json()

    assert (shown["status"], shown["errorCode"]) == ("Failed", "FILE_UNREADABLE")
    assert caller.search("transcode-fails.png") == []


@pytest.mark.parametrize(
    "name", ["", "a b", ".a", "a/", *(f"a{sign}" for sign in '\\{^}%`]">[~<#|')]
)
def test_an_assets_name_has_only_what_the_platform_allows(caller: Caller, name: str) -> None:
    answer = caller.call("POST", f"{ASSETS}/uploads", {"name": name})

    assert answer.status_code == 400


def test_an_announcement_without_a_file_leaves_nothing_and_two_files_of_a_name_are_a_double(
    caller: Caller,
) -> None:
    first, second = caller.announce("menu.png"), caller.announce("menu.png")
    send(second)
    once = caller.sandbox.get("report")
    send(first)

    assert (once["effects"], once["duplicates"]) == (1, 0)
    double = ["PUT", "/transfers/responseassets", "menu.png", 2]
    assert caller.sandbox.get("report")["duplicate_list"] == [double]


def test_an_asset_whose_name_is_taken_is_refused_where_names_must_differ(caller: Caller) -> None:
    caller.sandbox.post("config", {"duplicate_names": "refused"})
    send(caller.announce("menu.png"))

    assert caller.call("POST", f"{ASSETS}/uploads", {"name": "menu.png"}).status_code == 409


def test_a_damaged_file_is_refused_where_its_md5_was_announced(caller: Caller) -> None:
    md5 = base64.b64encode(hashlib.md5(SOUND, usedforsecurity=False).digest()).decode()
    issued = caller.announce("menu.png", contentMd5=md5)

    statuses = [send(issued, SOUND[:-1]), send(issued)]

    assert (statuses, issued["headers"]["Content-MD5"]) == ([400, 200], md5)
    assert caller.sandbox.get("report")["effects"] == 1


PROMPT = f"POST {PROMPTS}"
RESOURCE = f"POST {PROMPTS}/*/resources"
URL = f"POST {PROMPTS}/*/uploads"
POLL = f"GET {PROMPTS}/*/en-us"
ASSET = f"POST {ASSETS}/uploads"
STATUS = f"GET {ASSETS}/status/*"


@pytest.mark.parametrize("match", [PROMPT, RESOURCE, URL, POLL, ASSET, STATUS])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"kind": "429", "retry_after": 7200}, 429),
        ({"kind": "401"}, 401),
        ({"kind": "5xx_before"}, 503),
        ({"kind": "5xx_after"}, 500),
        ({"kind": "drop_after"}, 0),
    ],
)
def test_faults_hit_each_call_for_media(
    caller: Caller, match: str, fault: dict[str, object], status: int
) -> None:
    path, asset = caller.prompt(), caller.announce("menu.png")["id"]
    call = {
        PROMPT: ("POST", PROMPTS, {"name": "late"}),
        RESOURCE: ("POST", path.rpartition("/")[0], {"language": "de-de"}),
        URL: ("POST", f"{path}/uploads", None),
        POLL: ("GET", path, None),
        ASSET: ("POST", f"{ASSETS}/uploads", {"name": "late.png"}),
        STATUS: ("GET", f"{ASSETS}/status/{asset}", None),
    }[match]
    before = caller.sandbox.get("report")["effects"]
    caller.sandbox.post("faults", [{"times": 1, "match": match, **fault}])

    if status:
        assert caller.call(*call).status_code == status
    else:
        with pytest.raises(requests.ConnectionError):
            caller.call(*call)

    has_effect = match in {PROMPT, RESOURCE} and fault["kind"] in {"5xx_after", "drop_after"}
    assert caller.sandbox.get("report")["effects"] == before + has_effect
