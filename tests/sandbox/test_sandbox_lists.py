"""Contact lists, as a caller meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import requests

    from orchestration.sandbox import SandboxProcess

LISTS = "/api/v2/outbound/contactlists"
FULL = {
    "name": "spring",
    "columnNames": ["phone"],
    "phoneColumns": [{"columnName": "phone", "type": "cell"}],
}


def make(sandbox: SandboxProcess, http: requests.Session, **fields: object) -> Any:
    return http.post(sandbox.url + LISTS, json={**FULL, **fields}, timeout=10).json()


def search(
    sandbox: SandboxProcess, http: requests.Session, name: str, **query: str
) -> dict[str, Any]:
    params = {"name": name, **query}
    page: dict[str, Any] = http.get(sandbox.url + LISTS, params=params, timeout=10).json()
    return page


def test_a_list_is_found_by_the_beginning_of_its_name_and_by_the_whole_of_it_only_if_asked(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    for name in ("spring", "spring 2", "autumn"):
        make(sandbox, http, name=name)

    prefix = search(sandbox, http, "spring")
    equal = search(sandbox, http, "spring", filterType="Equals")
    second = search(sandbox, http, "", pageSize="2", pageNumber="2")

    assert [entity["name"] for entity in prefix["entities"]] == ["spring", "spring 2"]
    assert [entity["name"] for entity in equal["entities"]] == ["spring"]
    assert [entity["name"] for entity in second.pop("entities")] == ["autumn"]
    assert second == {"total": 3, "pageSize": 2, "pageNumber": 2, "pageCount": 2}


def test_a_page_of_more_than_a_hundred_is_refused(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    answer = http.get(sandbox.url + LISTS, params={"pageSize": "101"}, timeout=10)

    assert answer.status_code == 400


def test_a_second_list_of_a_name_shows_as_a_double(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    first, second = make(sandbox, http), make(sandbox, http)

    assert first["id"] != second["id"]
    assert sandbox.get("report")["duplicate_list"] == [["POST", LISTS, "spring", 2]]


def test_a_second_list_of_a_name_is_refused_where_names_must_differ(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"duplicate_names": "refused"})
    make(sandbox, http)

    answer = http.post(sandbox.url + LISTS, json=FULL, timeout=10)

    assert answer.status_code == 409
    assert answer.json()["code"] == "already.exists"
    assert answer.json()["contextId"] == answer.headers["ININ-Correlation-Id"]
    assert sandbox.get("report")["effects"] == 1


def test_a_new_list_is_not_read_before_the_lag_is_over_but_the_journal_and_writes_know_it(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"read_lag_s": 60, "strict_lists": True})
    created = make(sandbox, http)
    url = f"{sandbox.url}{LISTS}/{created['id']}"

    def look() -> tuple[int, int]:
        by_name = search(sandbox, http, "spring", filterType="Equals")["total"]
        return http.get(url, timeout=10).status_code, by_name

    before = look()
    contact = {"id": "c-1", "contactListId": created["id"], "data": {"phone": "1"}}
    added = http.post(f"{url}/contacts", json=[contact], timeout=10).status_code
    effects = sandbox.get("report")["effects"]
    sandbox.post("clock", {"advance_s": 60})

    assert (before, added, effects) == ((404, 0), 200, 2)
    assert look() == (200, 1)


def test_a_list_tells_its_size_only_if_asked(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    created = make(sandbox, http)
    url = f"{sandbox.url}{LISTS}/{created['id']}"
    contacts = [{"contactListId": created["id"], "data": {"phone": str(n)}} for n in range(3)]
    http.post(f"{url}/contacts", json=contacts, timeout=10)

    plain = http.get(url, timeout=10).json()
    sized = http.get(url, params={"includeSize": "true"}, timeout=10).json()

    assert (plain, sized) == (created, {**created, "size": 3})


@pytest.mark.parametrize("refusal", [409, 400])
def test_an_update_needs_the_current_version(
    sandbox: SandboxProcess, http: requests.Session, refusal: int
) -> None:
    sandbox.post("config", {"stale_version": str(refusal), "idempotency": "off"})
    created = make(sandbox, http)
    url = f"{sandbox.url}{LISTS}/{created['id']}"

    def update(**body: object) -> int:
        return http.put(url, json={**FULL, "name": "autumn", **body}, timeout=10).status_code

    statuses = [update(), update(version=1), update(version=1), update(version=2)]

    now = http.get(url, timeout=10).json()
    assert statuses == [400, 200, refusal, 200]
    assert (now["id"], now["name"], now["version"]) == (created["id"], "autumn", 3)


def test_a_deleted_list_is_gone_with_its_contacts(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    url = f"{sandbox.url}{LISTS}/{make(sandbox, http)['id']}"

    statuses = [http.delete(url, timeout=10).status_code for _ in range(2)]

    assert statuses == [204, 404]
    assert http.get(url, timeout=10).status_code == 404


@pytest.mark.parametrize("lacks", ["name", "columnNames", "type"])
def test_a_list_without_a_required_field_is_refused_by_name(
    sandbox: SandboxProcess, http: requests.Session, lacks: str
) -> None:
    sandbox.post("config", {"strict_fields": True})
    body: dict[str, Any] = {name: value for name, value in FULL.items() if name != lacks}
    if lacks == "type":
        body["phoneColumns"] = [{"columnName": "phone"}]

    answer = http.post(sandbox.url + LISTS, json=body, timeout=10)
    created = make(sandbox, http)
    url = f"{sandbox.url}{LISTS}/{created['id']}"
    update = http.put(url, json={**body, "version": 1}, timeout=10)

    for refused in (answer, update):
        assert (refused.status_code, lacks in refused.json()["message"]) == (400, True)
    assert http.get(url, timeout=10).json() == created
