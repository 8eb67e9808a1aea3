from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from orchestration.cli import flower as cli
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World

ROOT = Path(__file__).parents[2]
PASSWORD = "canary-flower-9f2d"


def listens(host: str, port: int) -> bool:
    with socket.socket() as it:
        return it.connect_ex((host, port)) == 0


@contextmanager
def started(
    *command: str, host: str, port: int, cwd: Path = ROOT, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """A Flower that listens."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=os.environ | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as it:
        try:
            give_up = time.monotonic() + 20
            while not listens(host, port):
                assert it.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.05)
            yield it
        finally:
            it.terminate()
            with suppress(subprocess.TimeoutExpired):
                it.wait(timeout=20)
            it.kill()  # Flower's own threads may keep one that has hardly begun


@contextmanager
def ours(
    *options: str, host: str = "127.0.0.1", cwd: Path = ROOT, **env: str
) -> Iterator[tuple[Any, str]]:
    """`headgate flower`, and where it is."""
    port = free_port()
    command = ("orchestration.cli", "flower", f"--port={port}", *options)
    with started(*command, host=host, port=port, cwd=cwd, **env) as it:
        yield it, f"http://{host}:{port}"


def status(url: str, *login: str) -> int:
    return requests.get(url, auth=login or None, timeout=10).status_code


@pytest.mark.usefixtures("world")  # for its configuration
@pytest.mark.parametrize(
    ("options", "where", "elsewhere"),
    [([], "127.0.0.1", "127.0.0.2"), (["--address=127.0.0.2"], "127.0.0.2", "127.0.0.1")],
)
def test_flower_listens_on_loopback_unless_another_address_is_named(
    options: list[str], where: str, elsewhere: str
) -> None:
    port = free_port()
    command = ["celery", "-A", "workers.app", "flower", f"--port={port}", *options]

    with started(*command, host=where, port=port):
        assert not listens(elsewhere, port)


@pytest.mark.usefixtures("world")
def test_a_service_of_kubernetes_by_the_name_of_flower_does_not_end_it() -> None:
    script = (
        "import workers.app; from flower.command import apply_env_options, options; "
        "apply_env_options(); print(options.port)"
    )

    for given, port in (("tcp://10.0.0.7:5555", "5555"), ("5556", "5556")):
        ran = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "FLOWER_PORT": given},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.stdout.strip(), ran.stderr) == (port, "")


def test_headgate_flower_asks_for_the_password_that_was_set_and_never_shows_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD},with a comma\n")

    with ours(HEADGATE_FLOWER__PASSWORD_FILE=str(file)) as (flower, url):
        assert not listens("127.0.0.2", int(url.rpartition(":")[2]))
        assert status(f"{url}/workers") == 401
        assert status(f"{url}/workers", "headgate", PASSWORD) == 401
        assert status(f"{url}/api/workers", "other", f"{PASSWORD},with a comma") == 401
        assert status(f"{url}/workers", "headgate", f"{PASSWORD},with a comma") == 200
        process = Path("/proc", str(flower.pid))
        assert "canary-flower" not in (process / "cmdline").read_text()
        assert "canary-flower" not in (process / "environ").read_text()
        flower.terminate()
        said = flower.stderr.read()

    assert flower.returncode == 0
    assert f"Flower at {url}, user headgate" in said
    assert "canary" not in said


def test_without_one_a_password_is_made_and_kept_for_nobody_else(
    world: World, tmp_path: Path
) -> None:
    folder = str(tmp_path / "data")
    kept = tmp_path / "data" / cli.LOGIN_FILE

    with ours(HEADGATE_STORE__DATA_DIR=folder) as (flower, url):
        password = kept.read_text().strip()
        assert len(password) >= 24
        assert kept.stat().st_mode & 0o777 == 0o600
        assert (status(url), status(url, "headgate", password)) == (401, 200)
        flower.terminate()
        said = flower.stderr.read()
    with ours(HEADGATE_STORE__DATA_DIR=folder) as (_, url):
        assert status(url, "headgate", password) == 200

    assert f"a password was made for Flower: in {kept}" in said  # no terminal: this is a log
    assert password not in said
    assert world.store_url.startswith("redis://127.0.0.1")  # the data folder was no store's


@pytest.mark.usefixtures("world")
def test_no_program_of_the_current_folder_is_run(tmp_path: Path) -> None:
    (tmp_path / "flowerconfig.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    with ours(cwd=tmp_path):
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])  # noqa: S104 -- refused
def test_beyond_this_machine_only_with_a_password_of_ones_own(world: World, host: str) -> None:
    result = world.run("flower", "--host", host)

    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "set flower.password_file" in result.output


@pytest.mark.usefixtures("world")
def test_with_a_password_it_listens_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_LOGIN", PASSWORD)

    with ours(
        "--host=127.0.0.2", host="127.0.0.2", HEADGATE_FLOWER__PASSWORD_ENV="FLOWER_LOGIN"
    ) as (_, url):
        assert (status(url), status(url, "headgate", PASSWORD)) == (401, 200)


def test_a_port_that_is_taken_is_one_sentence(world: World, tmp_path: Path) -> None:
    world.configure(more="")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "orchestration.cli", "flower", f"--port={port}"],
            cwd=ROOT,
            env=os.environ | {"HEADGATE_STORE__DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last.startswith(f"headgate: Flower cannot listen on 127.0.0.1:{port} (")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("", "is empty"),
        ("pässword", "ASCII characters only"),
        ("14-characters-", "fewer than 15 characters"),
    ],
)
def test_a_password_that_cannot_be_used_is_refused_in_one_sentence(
    world: World, tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content, "utf-8")
    world.configure()
    world.config.write_text(world.config.read_text() + f'[flower]\npassword_file = "{file}"\n')

    result = world.run("flower")

    assert result.exit_code == 2
    assert result.output.startswith("headgate: flower: ")
    assert said in result.output
    assert result.output.count("\n") == 1
    assert not content or content not in result.output


class Shown:
    """A task as Flower hands it to its formatter."""

    def __init__(self, args: str, result: str | None = None, exception: str | None = None) -> None:
        self.args, self.result, self.exception = args, result, exception


@pytest.mark.parametrize(
    ("task", "result"),
    [
        (Shown("('acme', 'k-1', 2)", "'succeeded 201'"), "succeeded 201"),
        (Shown("['acme', 'k-1', 2]", None, "failed: the provider answered 400"),
         "failed: the provider answered 400"),
        (Shown("('acme', 'k-1', 2)", None, "Retry(Retry(...), again: it answered 503, 3.14159)"),
         "again: it answered 503; in 3.1 s"),
        (Shown("('acme', 'k-1', 2)"), None),
    ],
)  # fmt: skip
def test_a_task_is_shown_in_words(task: Shown, result: str | None) -> None:
    shown = cli.format_task(task)

    assert (shown.args, shown.result) == ("acme step 2 k-1", result)


@pytest.mark.parametrize("args", ["(1, 2)", "...", "", None, "(<Thing>, 'a', 'b')"])
def test_a_task_of_another_application_is_shown_as_it_is(args: Any) -> None:
    shown = cli.format_task(Shown(args, "'x'", "ValueError('y')"))

    assert (shown.args, shown.result) == (args, "'x'")


#: As long as no rule of ours would think of.
LONG = "flower pass: word-".ljust(100, "x")
#: Logins that Flower's own check fails on: other characters, no password, no text, no Base64.
ODD_LOGINS = {
    "other characters": b"Basic " + b64encode("headgate:pässwörd".encode()),
    "another coding": b"Basic " + b64encode("headgate:pässwörd".encode("latin-1")),
    "no Base64": b"Basic %%%",
    "nothing": b"Basic",
    "another scheme": b"Bearer " + b64encode(b"headgate:x"),
}
#: What no page of ours may lack.
POLICY = {
    "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "default-src 'self'",
}  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A Flower behind a long password, and where it is."""
    folder = tmp_path_factory.mktemp("flower")
    (folder / "password").write_text(LONG)
    environment = {
        "HEADGATE_STORE__DATA_DIR": str(folder / "data"),
        "HEADGATE_FLOWER__PASSWORD_FILE": str(folder / "password"),
    }
    with ours(**environment) as (flower, url):
        yield flower, url


def test_a_browser_is_told_to_keep_load_and_frame_nothing(page: tuple[Any, str]) -> None:
    _, url = page
    answers = [
        requests.get(f"{url}/{path}", auth=login, timeout=10)
        for path in ("", "workers", "tasks", "broker", "api/workers", "nothing")
        for login in (None, ("headgate", LONG))
    ]
    traced = requests.request("TRACE", url, auth=("headgate", LONG), timeout=10)

    assert {answer.status_code for answer in answers} == {200, 401, 404}
    assert traced.status_code == 405
    for answer in (*answers, traced):
        assert set(answer.headers["Content-Security-Policy"].split("; ")) > POLICY
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Content-Type"].startswith(("text/", "application/json"))


def test_no_login_of_a_stranger_is_answered_with_more_than_a_refusal(page: tuple[Any, str]) -> None:
    flower, url = page
    answers = {
        name: requests.get(f"{url}/workers", headers={"Authorization": login}, timeout=10)
        for name, login in ODD_LOGINS.items()
    }
    flower.terminate()  # the last test of this page
    said = flower.stderr.read()

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        ODD_LOGINS, 401
    )
    assert {answer.text for answer in answers.values()} == {"Access denied"}
    assert "Z: WARNING/MainProcess] refused logins: 1, the last from 127.0.0.1\n" in said
    assert "Traceback" not in said
