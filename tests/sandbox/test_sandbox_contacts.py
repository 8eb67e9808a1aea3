"""Contacts that are added again: who is put into the queue, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

    from orchestration.sandbox import SandboxProcess

LISTS = "/api/v2/outbound/contactlists"
LIST = f"{LISTS}/l-1/contacts"


def add(
    sandbox: SandboxProcess, http: requests.Session, *phones: str, path: str = LIST, **query: str
) -> Any:
    """Add a contact c-0, c-1, ... for each phone."""
    entity = path.split("/")[-2]
    contacts = [
        {"id": f"c-{n}", "contactListId": entity, "data": {"phone": phone}}
        for n, phone in enumerate(phones)
    ]
    return http.post(sandbox.url + path, json=contacts, params=query, timeout=10)


def queue(sandbox: SandboxProcess) -> list[Any]:
    report = sandbox.get("report")
    return [report[name] for name in ("queued", "queued_again", "queued_again_list")]


def test_contacts_that_are_added_again_are_queued_once_more_changed_or_not(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    add(sandbox, http, "1", "2")
    once = queue(sandbox)
    add(sandbox, http, "1", "3")
    add(sandbox, http, "1")

    assert once == [2, 0, []]
    assert queue(sandbox) == [5, 3, [[LIST, "c-0", 3], [LIST, "c-1", 2]]]


def test_with_do_not_queue_only_new_contacts_are_queued(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    add(sandbox, http, "1")
    add(sandbox, http, "1", "2", doNotQueue="true")
    add(sandbox, http, "3", "2", doNotQueue="true")

    assert queue(sandbox) == [2, 0, []]
    assert sandbox.get("report")["updates"] == 1


def test_the_same_contact_of_two_lists_is_queued_in_each_once(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    add(sandbox, http, "1")
    add(sandbox, http, "1", path=f"{LISTS}/l-2/contacts")

    assert queue(sandbox) == [2, 0, []]


def test_an_answer_from_the_memory_of_a_key_queues_nothing_and_a_lost_answer_did(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    http.headers["Idempotency-Key"] = "k"
    sandbox.post("faults", [{"kind": "5xx_after", "times": 1}])
    statuses = [add(sandbox, http, "1").status_code for _ in range(2)]
    remembered = queue(sandbox)
    sandbox.post("config", {"idempotency": "off"})
    statuses.append(add(sandbox, http, "1").status_code)

    assert statuses == [500, 200, 200]
    assert remembered == [1, 0, []]
    assert queue(sandbox) == [2, 1, [[LIST, "c-0", 2]]]


def test_contacts_of_a_list_that_does_not_exist_are_refused_and_not_read_where_lists_are_strict(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"strict_lists": True})

    added = add(sandbox, http, "1")
    read = http.post(f"{sandbox.url}{LIST}/bulk", json=["c-0"], timeout=10)

    assert (added.status_code, read.status_code) == (404, 404)
    assert queue(sandbox) == [0, 0, []]
