"""Folders and manifests of media files: what becomes a row, and under which name."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk


@pytest.fixture
def files(desk: Desk, tmp_path: Path) -> Path:
    desk.configure(store="accept_everysec = true")  # as it is in tests, and prompts are looked up
    where = tmp_path / "in"
    (where / "below").mkdir(parents=True)
    for name in ("b.wav", "a first.mp3", "notes.txt", ".hidden.wav", "below/c.wav"):
        (where / name).write_bytes(name.encode())
    return where


def submit(desk: Desk, path: Path, *args: str) -> list[dict[str, Any]]:
    """Submit a folder or manifest, which must work; its rows."""
    result = desk.run("submit", "media", path, "--client", "acme", "--json", *args)
    assert result.exit_code == 0, result.stderr
    return desk.rows(json.loads(result.stdout)["job"])


def test_each_audio_file_of_a_folder_is_a_prompt_of_its_name(desk: Desk, files: Path) -> None:
    first, second = submit(desk, files, "--language", "de-DE")

    assert [first["id"], second["id"]] == ["a_first:de-de", "b:de-de"]
    assert second == {
        "line": 2,
        "id": "b:de-de",
        "name": "b",
        "language": "de-de",
        "path": str(files / "b.wav"),
        "size": 5,
        "md5": hashlib.md5(b"b.wav").hexdigest(),  # noqa: S324
    }


def test_each_file_of_a_folder_is_an_asset_of_its_whole_name(desk: Desk, files: Path) -> None:
    rows = submit(desk, files, "--as", "assets")

    assert [it["id"] for it in rows] == ["a_first.mp3", "b.wav", "notes.txt"]


@pytest.mark.parametrize("end", ["csv", "jsonl"])
def test_a_manifest_says_names_and_languages_and_its_paths_begin_at_its_folder(
    desk: Desk, files: Path, end: str
) -> None:
    lines = [
        {"path": "b.wav", "name": "hello", "language": "en-us"},
        {"path": "below/c.wav", "name": "hello", "language": "de-de"},
        {"path": "b.wav"},
    ]
    columns = ["path", "name", "language"]
    table = [",".join(it.get(name, "") for name in columns) for it in lines]
    text = {"csv": [",".join(columns), *table], "jsonl": map(json.dumps, lines)}[end]
    manifest = files / f"all.{end}"
    manifest.write_text("\n".join(text))

    first, second, third = submit(desk, manifest)

    assert [it["id"] for it in (first, second, third)] == ["hello:en-us", "hello:de-de", "b:en-us"]
    assert "made_by" not in first
    assert second["made_by"] == first["id"]  # the first row makes the prompt
    assert second["path"] == str(files / "below" / "c.wav")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("not json", "is not JSON: Expecting value at column 1"),
        ("[" * 100_000, "is nested deeper than 64 levels"),
        ('["b.wav"]', "must be a JSON object"),
        ('{"path": "gone.wav", "path": "b.wav"}', "path: given twice in one object"),
        ('{"name": "x"}', "path: is missing"),
        ('{"path": "gone.wav"}', "path: cannot be read (No such file or directory)"),
        ('{"path": "below"}', "path: cannot be read (not a regular file)"),
        ('{"path": "pipe.wav"}', "path: cannot be read (not a regular file)"),
        ('{"path": "empty.wav"}', "path: the file is empty"),
        ('{"path": "b.wav", "name": "two words"}', "name: must be"),
        ('{"path": "b.wav", "language": "german?"}', "language: must be"),
        ('{"path": "b.wav", "size": 3}', "size: unknown field"),
        ('{"path": 7}', "path: must be text"),
    ],
)
def test_a_bad_line_is_rejected_with_the_reason_and_the_others_go_on(
    desk: Desk, files: Path, line: str, why: str
) -> None:
    (files / "empty.wav").touch()
    os.mkfifo(files / "pipe.wav")
    manifest = files / "all.jsonl"
    manifest.write_text(f'{line}\n{{"path": "b.wav", "name": "good"}}\n')

    bad, good = submit(desk, manifest)

    assert why in bad["error"]
    assert good["id"] == "good:en-us"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/proc/self/environ", "/dev/zero", "../out.wav", "link.wav", "a/../../out.wav"],
)
def test_a_manifest_reads_nothing_outside_of_its_folder(path: str, desk: Desk, files: Path) -> None:
    (files.parent / "out.wav").write_bytes(b"out")
    (files / "link.wav").symlink_to(files.parent / "out.wav")
    manifest = files / "all.jsonl"
    manifest.write_text(f'{{"path": "{path}", "name": "it"}}\n{{"path": "b.wav"}}\n')

    bad, good = submit(desk, manifest)

    assert "path: must lie below the folder of the manifest" in bad["error"]
    assert good["id"] == "b:en-us"


def test_links_in_a_circle_are_one_sentence(desk: Desk, files: Path) -> None:
    (files / "one.wav").symlink_to("two.wav")
    (files / "two.wav").symlink_to("one.wav")
    manifest = files / "all.jsonl"
    manifest.write_text('{"path": "one.wav"}\n{"path": "b.wav"}\n')

    bad, good = submit(desk, manifest)

    assert "path: cannot be read (Too many levels of symbolic links)" in bad["error"]
    assert good["id"] == "b:en-us"


def test_below_the_root_of_media_paths_are_stored_without_it_and_others_are_rejected(
    desk: Desk, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_WORKER__MEDIA_ROOT", str(tmp_path / "in"))
    (tmp_path / "out.wav").write_bytes(b"out")
    manifest = files / "all.jsonl"
    manifest.write_text('{"path": "below/c.wav"}\n{"path": "../out.wav"}\n')

    inside, outside = submit(desk, manifest)

    assert inside["path"] == "below/c.wav"
    assert "path: must lie below worker.media_root" in outside["error"]


def test_the_same_folder_is_the_same_job_until_a_file_changes(desk: Desk, files: Path) -> None:
    def job() -> str:
        result = desk.run("submit", "media", files, "--client", "acme")
        return result.stdout.strip()

    first, again = job(), job()
    assert first
    (files / "b.wav").write_bytes(b"B.wav")

    assert first == again
    assert job() != first


def test_two_files_of_one_name_are_told_and_the_second_is_rejected(desk: Desk, files: Path) -> None:
    (files / "b.mp3").write_bytes(b"another")

    rows = submit(desk, files)

    assert rows[2]["error"].startswith("b.wav: has the name of an earlier file; rename it")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("prompts", "über.wav", '"\\u00fcber.wav": name: must be 1 to 100 characters out of'),
        ("assets", "two\nlines.wav", '"two\\nlines.wav": path: must be text that can be printed'),
        ("assets", "zero.wav", "zero.wav: path: the file is empty"),
    ],
)
def test_what_is_wrong_with_a_file_of_a_folder_is_told_with_its_name(
    desk: Desk, files: Path, kind: str, name: str, said: str
) -> None:
    (files / name).write_bytes(b"" if name == "zero.wav" else b"sound")

    (bad,) = [it for it in submit(desk, files, "--as", kind) if "error" in it]

    assert bad["error"].startswith(said)


def test_a_link_out_of_the_folder_is_no_file_of_it_and_one_within_it_is(
    desk: Desk, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "private").write_bytes(b"private")
    (files / "out.wav").symlink_to(tmp_path / "private")
    (files / "within.wav").symlink_to(files / "below" / "c.wav")

    *_, out, within = submit(desk, files)

    assert out["error"].startswith("out.wav: path: is a link out of the folder")
    assert within["path"] == str(files / "below" / "c.wav")


def test_a_folder_without_audio_and_a_client_of_nice_are_refused_in_one_sentence(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    empty = desk.run("submit", "media", tmp_path / "none", "--client", "acme")
    desk.configure('provider = "nice"')
    nice = desk.run("submit", "media", tmp_path / "none", "--client", "acme")

    assert (empty.exit_code, nice.exit_code) == (2, 2)
    assert "none has no rows" in empty.stderr
    assert "is not built yet" in nice.stderr
    assert nice.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "kind"), [("b.wav", "prompts"), ("logo.png", "assets")])
@pytest.mark.parametrize("content", [b"RIFF", b"RIFF\0\xff\n\xfe"])
def test_a_media_file_in_place_of_its_folder_is_said(
    desk: Desk, files: Path, name: str, kind: str, content: bytes
) -> None:
    (files / name).write_bytes(content)

    result = desk.run("submit", "media", files / name, "--client", "acme", "--as", kind)

    wanted = "name the folder of the files, or a manifest that lists them"
    assert result.exit_code == 2
    assert result.stderr == f"headgate: {name} is a media file; {wanted}\n"


def test_calls_of_a_folder_are_foreseen_without_the_transfers(desk: Desk, files: Path) -> None:
    result = desk.run("submit", "media", files, "--client", "acme", "--json", "--dry-run")

    assert json.loads(result.stdout)["calls"] == 2 * 5
