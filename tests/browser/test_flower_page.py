"""Flower in a real browser: behind its login it shows who works on what, and no content.

Skips without Chromium and Playwright (`pip install headgate[browser]`); with REQUIRE_BROWSER=1 it
fails instead. SCREENSHOTS=docs/images writes the pictures of the docs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests

from tests.conftest import free_port
from tests.support.fleet import ROOT, Fleet, calls, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    sync_playwright = None
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
#: It loads nothing from elsewhere and runs as whoever tests.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
LOGIN = ("headgate", "flower-password-9f2d")
WORKERS = ("w1", "w2")
CANARY = "canary-body-4711"
#: A bell that counts down is both, and Flower shows what it heard of last.
COUNTING = ("RETRY", "RECEIVED")
#: Row → what the provider does to its first step.
TROUBLE = {"r1": "5xx_before", "r2": "400"}


@contextmanager
def flower(fleet: Fleet, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """`headgate flower` beside a fleet; its URL."""
    port, password = free_port(), fleet.folder / "flower_password"
    password.write_text(LOGIN[1])
    command = [sys.executable, "-m", "orchestration.cli", "flower", "--port", str(port)]
    own = {"HEADGATE_FLOWER__PASSWORD_FILE": str(password), **(env or {})}
    environment = fleet.environment | own
    with subprocess.Popen(command, env=environment, cwd=ROOT) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: answers(url), 30, "an answer of Flower")
            yield url
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthcheck", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    if CHROMIUM is None or sync_playwright is None:
        missing = "no Chromium on PATH" if CHROMIUM is None else "Playwright is not installed"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        it = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield it
        it.close()


@pytest.fixture(scope="module")
def run(browser: Any) -> Iterator[tuple[Fleet, str]]:
    """Two workers and Flower, and a job of chains whose first step meets trouble at times.

    Its countdowns are long enough to be looked at.
    """
    del browser  # without one nothing is started
    faults = [
        {"kind": kind, "when": {"business_ids": [f"{row}.1"]}, "per_business_id_times": 1}
        for row, kind in TROUBLE.items()
    ]
    worker = {"backlog_after_s": 60, "bell_grace_s": 3.0}
    client = {"backoff_base_s": 20.0, "backoff_cap_s": 40.0}
    with Fleet(sandbox={"faults": faults}, client=client, worker=worker) as fleet:
        rows = calls(30, steps=3)
        for row in rows:
            for step in row["steps"]:
                step["body"]["name"] = CANARY
        with flower(fleet) as url:
            for name in WORKERS:
                fleet.start_worker(name)
            until(lambda: len(online(url)) == len(WORKERS), 30, "two workers in Flower")
            numbers = count()
            until(lambda: heard(fleet, url, next(numbers)), 30, "events, which Flower turned on")
            fleet.submit(rows)
            fleet.wait_for(29)
            until(lambda: any(states(url)[it] for it in COUNTING), 10, "a countdown in Flower")
            until(lambda: states(url)["SUCCESS"] >= 28 * 3, 10, "all tasks in Flower")
            yield fleet, url


def heard(fleet: Fleet, url: str, number: int) -> bool:
    """Whether Flower hears of what both workers do; some calls for them to do."""
    fleet.submit(calls(8, prefix=f"e{number}-"), job=f"e{number}")
    time.sleep(0.5)
    return len({it["worker"] for it in api(url, "tasks?limit=1000").values()}) == len(WORKERS)


def online(url: str) -> list[str]:
    found: dict[str, bool] = api(url, "workers?status=true")
    return [name for name, status in found.items() if status]


def states(url: str) -> Counter[str]:
    return Counter(it["state"] for it in api(url, "tasks?limit=1000").values())


def api(url: str, what: str) -> Any:
    return requests.get(f"{url}/api/{what}", auth=LOGIN, timeout=10).json()


@pytest.fixture
def page(browser: Any, run: tuple[Fleet, str]) -> Iterator[Any]:
    """A page that has logged in."""
    context = browser.new_context(
        base_url=run[1],
        http_credentials={"username": LOGIN[0], "password": LOGIN[1]},
        viewport={"width": 1500, "height": 560},
    )
    yield context.new_page()
    context.close()


def picture(page: Any, name: str) -> None:
    """A picture for the docs, when they are to be made anew."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"flower-{name}.png")


def search(page: Any, words: str, rows: int) -> Any:
    """The rows of the tasks page, at least so many, after a search."""
    page.goto("/tasks")
    page.fill("input[type=search]", words)
    found = page.locator("#tasks-table tbody tr")
    if rows:
        expect(found).to_have_count(rows)
    return found


def test_nobody_looks_without_the_password(browser: Any, run: tuple[Fleet, str]) -> None:
    answers = []
    for login in (None, {"username": LOGIN[0], "password": "wrong"}):
        context = browser.new_context(base_url=run[1], http_credentials=login)
        paths = ("/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers")
        answers += [context.request.get(path).status for path in paths]
        context.close()

    assert set(answers) == {401}


def test_workers_and_tasks_are_there_without_further_settings(page: Any) -> None:
    page.goto("/workers")
    expect(page.get_by_role("link", name="w1@")).to_be_visible()
    expect(page.get_by_role("link", name="w2@")).to_be_visible()
    assert page.get_by_text("Online", exact=True).count() == 2
    picture(page, "workers")

    found = search(page, "state:SUCCESS", 15)
    expect(found.nth(0)).to_contain_text("calls.call")
    assert all("acme step " in it for it in found.all_inner_texts())
    expect(page.locator("#tasks-table")).to_contain_text("succeeded 201")
    page.goto("/tasks")
    page.wait_for_timeout(500)
    picture(page, "tasks")


def test_a_chain_is_followed_by_its_key(page: Any, run: tuple[Fleet, str]) -> None:
    key = run[0].keys()["r7"]

    found = search(page, f"{key} result:succeeded", 3)

    steps = sorted(it[it.index("step ") :][:6] for it in found.all_inner_texts())
    assert steps == ["step 1", "step 2", "step 3"]
    picture(page, "chain")


def test_a_countdown_and_a_failure_say_why(page: Any, run: tuple[Fleet, str]) -> None:
    found = search(page, run[0].keys()["r1"], 1)
    expect(found).to_contain_text("again: the provider answered 503")
    expect(found).to_contain_text(re.compile(r"; in [234]\d\.\d s"))

    found = search(page, "state:FAILURE", 1)
    expect(found).to_contain_text("failed: the provider answered 400")
    found.get_by_role("link").last.click()
    expect(page.locator("#task-page")).to_contain_text("failed: the provider answered 400")
    picture(page, "failure")


def test_no_page_and_no_answer_of_its_api_shows_contents_or_secrets(
    page: Any, run: tuple[Fleet, str]
) -> None:
    fleet, url = run
    seen = []
    tasks = api(url, "tasks?limit=1000")
    paths = ["/", "/workers", "/tasks", "/broker"]
    paths += [f"/task/{it}" for it in list(tasks)[:30]]
    paths += [f"/worker/{it}" for it in online(url)]
    for path in paths:
        page.goto(path)
        seen.append(page.content())
    whats = ["tasks?limit=1000", "workers?refresh=true", "queues/length", "task/types"]
    whats += [f"task/info/{it}" for it in tasks]
    seen += [requests.get(f"{url}/api/{it}", auth=LOGIN, timeout=10).text for it in whats]
    assert len(tasks) >= 28 * 3
    assert fleet.effects()  # the bodies did travel

    assert not [text for text in seen if "canary" in text or LOGIN[1] in text]


#: What a page would run if it took it for more than text: in an element, and in an attribute.
SCRIPT = """'"><img src=x onerror="window.taken=1"><script>window.taken=1</script>"""
#: Events of somebody who can write to the broker: a worker and a task of such names.
FORGE = f"""
from workers.app import app
bad = {SCRIPT!r}
with app.connection_for_write() as connection:
    events = app.events.Dispatcher(connection, hostname="forged@" + bad)
    events.send("worker-online", sw_ident=bad, sw_ver=bad, sw_sys=bad, freq=2)
    for uuid in ("forged-1", bad):
        events.send("task-received", uuid=uuid, name=bad, args=bad, kwargs=bad, retries=0, eta=bad)
        events.send("task-started", uuid=uuid)
        events.send("task-failed", uuid=uuid, exception=bad, traceback=bad)
    events.send("worker-heartbeat", sw_ident=bad, sw_ver=bad, sw_sys=bad, freq=2)
"""


def test_a_page_runs_nothing_of_what_a_stranger_wrote_to_the_broker(
    page: Any, run: tuple[Fleet, str]
) -> None:
    fleet, url = run
    subprocess.run([sys.executable, "-c", FORGE], cwd=ROOT, env=fleet.environment, check=True)
    until(lambda: "forged-1" in api(url, "tasks?limit=1000"), 10, "the forged task in Flower")

    for path in ("/", "/workers", "/tasks", "/task/forged-1", f"/task/{quote(SCRIPT, safe='')}"):
        page.goto(path)
        page.wait_for_timeout(700)  # the tables load theirs later
        assert page.evaluate("window.taken") is None, path
        assert path == "/" or "onerror" in page.inner_text("body"), path


def test_it_is_to_look_at_only(run: tuple[Fleet, str]) -> None:
    name = online(run[1])[0]

    answer = requests.post(f"{run[1]}/api/worker/shutdown/{name}", auth=LOGIN, timeout=10)

    assert answer.status_code == 403
    time.sleep(1)
    assert name in online(run[1])
