"""Links in a circle, devices and pipes, wherever a file is named: one sentence, and no wait."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk

OPTIONS = {
    "calls": (),
    "contacts": ("--list", "7f3a9c"),
    "campaigns": (),
    "media": (),
}


def odd(folder: Path, name: str) -> Path:
    """Something of this name that is no file."""
    path = folder / name
    match name:
        case "circle":
            path.symlink_to(folder / "back")
            (folder / "back").symlink_to(path)
        case "itself":
            path.symlink_to(path)
        case "missing":
            path.symlink_to(folder / "nowhere")
        case "zero" | "null":
            path.symlink_to(f"/dev/{name}")
        case "pipe":
            os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["circle", "itself", "missing", "zero", "null"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_what_is_no_file_is_refused_in_one_sentence(
    desk: Desk, tmp_path: Path, kind: str, name: str
) -> None:
    path = odd(tmp_path, name)

    result = desk.run("submit", kind, path, "--client", "acme", *OPTIONS[kind])

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert name in result.stderr


@pytest.mark.parametrize("name", ["circle", "itself", "missing", "zero", "null", "pipe"])
@pytest.mark.parametrize("end", [".csv", ".jsonl"])
@pytest.mark.parametrize("kind", ["prompts", "assets"])
def test_a_manifest_that_names_no_file_has_that_row_rejected(
    desk: Desk, tmp_path: Path, name: str, end: str, kind: str
) -> None:
    desk.configure(store="accept_everysec = true")
    odd(tmp_path, name)
    (tmp_path / "good.wav").write_bytes(b"sound")
    lines = [f'{{"path": "{path}"}}' for path in (name, "good.wav")]
    text = "\n".join(lines) if end == ".jsonl" else f"path\n{name}\ngood.wav\n"
    manifest = desk.file(f"all{end}", text)

    result = desk.run("submit", "media", manifest, "--as", kind, "--client", "acme", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["rejected"] == 1
    assert "path: " in result.stderr


@pytest.mark.parametrize("name", ["circle", "itself", "missing", "zero", "pipe"])
def test_a_folder_with_what_is_no_file_has_its_files_submitted(
    desk: Desk, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.wav").write_bytes(b"sound")
    odd(folder, name)

    result = desk.run("submit", "media", folder, "--as", "assets", "--client", "acme", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["rows"] == 1


@pytest.mark.parametrize("name", ["circle", "itself", "zero", "pipe"])
def test_a_media_root_that_is_no_folder_rejects_each_row(
    desk: Desk, tmp_path: Path, name: str
) -> None:
    root = odd(tmp_path, name)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.wav").write_bytes(b"sound")
    desk.config.write_text(f'{desk.config.read_text()}[worker]\nmedia_root = "{root}"\n')

    result = desk.run("submit", "media", folder, "--client", "acme", "--json")

    assert result.exit_code in {0, 2}
    assert "media_root" in result.stderr


@pytest.mark.parametrize("name", ["circle", "itself", "missing", "zero", "null", "pipe"])
def test_a_campaign_whose_contacts_are_no_file_is_rejected(
    desk: Desk, tmp_path: Path, name: str
) -> None:
    desk.configure(store="accept_everysec = true")
    odd(tmp_path, name)
    campaign = {
        "name": "May", "dialingMode": "agentless", "outboundLineCount": 5, "callerName": "Acme",
        "callerAddress": "+15550100", "site": {"id": "s"}, "callAnalysisResponseSet": {"id": "c"},
        "phoneColumns": [{"columnName": "phone", "type": "cell"}],
    }  # fmt: skip
    line = {"id": "may", "contacts": name, "id_column": "customer", "campaign": campaign}
    file = desk.file("may.jsonl", [line])

    result = desk.run("submit", "campaigns", file, "--client", "acme", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["rejected"] == 1
    assert name in result.stderr


@pytest.mark.parametrize("name", ["circle", "itself", "missing", "zero"])
def test_a_configuration_that_is_no_file_is_one_sentence(
    desk: Desk, tmp_path: Path, name: str
) -> None:
    path = odd(tmp_path, name)

    result = desk.run("jobs", "--config", path)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert name in result.stderr


@pytest.mark.parametrize("name", ["circle", "itself", "missing", "zero"])
def test_a_secret_that_is_no_file_is_one_sentence(desk: Desk, tmp_path: Path, name: str) -> None:
    path = odd(tmp_path, name)
    desk.configure(f'auth = "bearer"\nclient_secret_file = "{path}"')

    result = desk.submit("calls", [{"id": "a", "method": "POST", "path": "/things"}])

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"client_secret_file {path} cannot be read" in result.stderr
