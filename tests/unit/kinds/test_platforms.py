"""Which kinds a client of each profile takes; of what it does not take nothing leaves or stays."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from orchestration.kinds import all_kinds, register
from tasks.kind import PLATFORMS, CannotSay, other_platform
from tasks.steps.granted import require_platform
from tests.conftest import hide_settings
from tests.support.desk import Desk
from workers.settings.client import profiles

if TYPE_CHECKING:
    from pathlib import Path

PROFILES = sorted({*profiles(), "rest"})
#: The profiles that each kind takes, beside those that say nothing of their platform.
TAKEN = {
    "calls": {*PROFILES},
    **{
        name: {"genesys", "genesys-guide"}
        for name in ("contacts", "campaigns", "prompts", "assets")
    },
}
OPEN = {"rest", "sandbox"}
OPTIONS = {
    "contacts": ["--list", "7f3a9c"],
    "prompts": ["--as", "prompts"],
    "assets": ["--as", "assets"],
}
CANARY = "canary-anna"


@pytest.fixture
def desk(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    hide_settings(monkeypatch)
    monkeypatch.setenv("HEADGATE_CONFIG", str(tmp_path / "headgate.toml"))
    return Desk(tmp_path, store_url)


def a_file(desk: Desk, kind: str) -> Path:
    """A good file of each kind, with a person in it."""
    if kind in {"prompts", "assets"}:
        folder = desk.folder / "in"
        folder.mkdir()
        (folder / f"{CANARY}.wav").write_bytes(b"sound")
        return folder
    if kind == "calls":
        return desk.file("rows.jsonl", [{"id": CANARY, "method": "POST", "path": "/things"}])
    contacts = desk.file("rows.csv", f"id,phone\n{CANARY},+15550100\n")
    if kind == "contacts":
        return contacts
    campaign = {
        "name": "May", "dialingMode": "agentless", "outboundLineCount": 5, "callerName": "Acme",
        "callerAddress": "+15550100", "site": {"id": "s"}, "callAnalysisResponseSet": {"id": "c"},
        "phoneColumns": [{"columnName": "phone", "type": "cell"}],
    }  # fmt: skip
    line = {"id": "may", "contacts": "rows.csv", "id_column": "id", "campaign": campaign}
    return desk.file("may.jsonl", [line])


def test_the_table_names_every_kind_and_every_profile() -> None:
    assert set(TAKEN) == set(all_kinds())
    for kind, profile in product(all_kinds().values(), PROFILES):
        is_taken = profile in TAKEN[kind.name] | OPEN
        assert (kind.other_platform(profile) == "") is is_taken, (kind.name, profile)


def test_a_profile_that_nobody_thought_of_takes_no_kind_of_another_platform() -> None:
    for platform in PLATFORMS:
        assert other_platform(platform, "five9") == "five9"
    assert other_platform("", "five9") == ""


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["submit", "dry-run"])
@pytest.mark.parametrize("profile", ["nice", "nice-guide"])
@pytest.mark.parametrize("kind", sorted(set(TAKEN) - {"calls"}))
def test_what_a_client_does_not_take_is_refused_before_its_file_is_read(
    desk: Desk, kind: str, profile: str, dry: tuple[str, ...]
) -> None:
    desk.configure(f'provider = "{profile}"', "accept_everysec = true")
    path, before = a_file(desk, kind), desk.names()
    command = all_kinds()[kind].command.name

    result = desk.run("submit", command, path, "--client", "acme", *OPTIONS.get(kind, ()), *dry)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"client acme is one of NICE CXone, for which `submit {kind}`" in result.stderr
    assert CANARY not in result.output
    assert desk.names() == before


@pytest.mark.parametrize("kind", sorted(TAKEN))
@pytest.mark.parametrize("profile", ["genesys", "genesys-guide", "sandbox", "rest"])
def test_what_a_client_takes_is_accepted(desk: Desk, kind: str, profile: str) -> None:
    desk.configure(f'provider = "{profile}"', "accept_everysec = true")
    command = all_kinds()[kind].command.name

    result = desk.run(
        "submit",
        command,
        a_file(desk, kind),
        "--client",
        "acme",
        *OPTIONS.get(kind, ()),
        "--dry-run",
    )

    assert result.exit_code == 0, result.stderr


def test_a_worker_whose_configuration_has_changed_sends_no_row_to_another_platform(
    desk: Desk,
) -> None:
    desk.configure('provider = "nice"')
    app = Celery(set_as_current=False)
    register(app)

    for kind in all_kinds().values():
        step = app.tasks[kind.steps.task]
        assert step.platform == kind.platform
        if kind.platform:
            with pytest.raises(CannotSay, match="acme is one of NICE CXone"):
                require_platform(desk.client, step.platform)
        else:
            require_platform(desk.client, step.platform)
