"""Which file is read, and where the data lies: it belongs to the configuration, not to a folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from workers.errors import ConfigError
from workers.settings.load import load
from workers.settings.place import find_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder two below one that nothing is above; it is the current one."""
    for variable in [name for name in os.environ if name.startswith("HEADGATE_")]:
        monkeypatch.delenv(variable)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_the_nearest_file_of_the_folders_above_is_read_and_its_data_lies_beside_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "headgate.toml").touch()
    near = tmp_path / "a" / "headgate.toml"
    near.touch()

    assert find_file() == near
    assert load().store.data_dir == tmp_path / "a" / ".headgate"


def test_a_file_that_is_named_is_read_and_nothing_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "headgate.toml").touch()
    other = tmp_path / "other" / "acme.toml"
    other.parent.mkdir()
    other.write_text('[store]\ndata_dir = "data"\n')

    assert load(other).store.data_dir == tmp_path / "other" / "data"
    monkeypatch.setenv("HEADGATE_CONFIG", str(other))
    assert load().store.data_dir == tmp_path / "other" / "data"


@pytest.mark.parametrize(
    ("data_dir", "place"), [(".headgate", "run/.headgate"), ("../data", "data")]
)
@pytest.mark.parametrize(
    "named",
    [
        "link/headgate.toml", "chain/headgate.toml", "folder/headgate.toml", "above.toml",
        "other/../run/headgate.toml",
    ],
)  # fmt: skip
def test_every_path_to_one_file_is_one_data_folder(
    named: str, data_dir: str, place: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for folder in ("run", "link", "chain", "other"):
        (tmp_path / folder).mkdir()
    (run / "headgate.toml").write_text(f'[store]\ndata_dir = "{data_dir}"\n')
    (tmp_path / "link" / "headgate.toml").symlink_to("../run/headgate.toml")
    (tmp_path / "chain" / "headgate.toml").symlink_to(tmp_path / "link" / "headgate.toml")
    (tmp_path / "folder").symlink_to(run)
    (tmp_path / "above.toml").symlink_to("run/headgate.toml")

    assert load(tmp_path / named).store.data_dir == tmp_path / place


def test_a_link_of_the_current_folder_is_found_and_its_data_lies_beside_the_file_itself(
    tmp_path: Path, below: Path
) -> None:
    (tmp_path / "acme.toml").touch()
    (below / "headgate.toml").symlink_to(tmp_path / "acme.toml")

    assert load().store.data_dir == tmp_path / ".headgate"


@pytest.mark.parametrize("link", ["mount/headgate.toml", "link.toml"])
def test_the_data_of_a_mounted_file_stays_when_an_update_moves_the_file(
    link: str, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    for version in ("..2026_1", "..2026_2"):
        (mount / version).mkdir(parents=True)
        (mount / version / "headgate.toml").touch()
    (mount / "..data").symlink_to("..2026_1")
    (mount / "headgate.toml").symlink_to("..data/headgate.toml")
    (tmp_path / "link.toml").symlink_to("mount/headgate.toml")
    before = load(tmp_path / link).store.data_dir

    (mount / "..data").unlink()
    (mount / "..data").symlink_to("..2026_2")

    assert before == load(tmp_path / link).store.data_dir == mount / ".headgate"


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A configuration that is named by a link of another folder; where it really lies is `etc`."""
    for folder in ("app", "etc"):
        (tmp_path / folder).mkdir()
    (tmp_path / "etc" / "headgate.toml").touch()
    link = tmp_path / "app" / "headgate.toml"
    link.symlink_to("../etc/headgate.toml")
    return link


def begin(folder: Path, name: str = "server.conf") -> Path:
    """Let a data folder hold an installation."""
    folder.mkdir(parents=True)
    (folder / name).touch()
    return folder


@pytest.mark.parametrize("there", ["nothing", "an empty folder"])
@pytest.mark.parametrize("name", ["server.conf", "installation.headgate.server-0123456789ab"])
@pytest.mark.parametrize("data_dir", [".headgate", "var/data"])
def test_an_installation_that_lies_beside_the_link_is_not_left_without_a_word(
    data_dir: str, name: str, there: str, linked: Path
) -> None:
    linked.write_text(f'[store]\ndata_dir = "{data_dir}"\n')
    old, new = begin(linked.parent / data_dir, name), linked.parent.parent / "etc" / data_dir
    if there == "an empty folder":
        new.mkdir(parents=True)

    result = CliRunner().invoke(main, ["status", "--config", str(linked)])

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    for text in (f"in {old},", f"in {new}:", "move the folder", f'store.data_dir = "{old}"'):
        assert text in result.stderr
    new.parent.mkdir(exist_ok=True)
    old.rename(new)
    assert load(linked).store.data_dir == new


def test_an_installation_beside_the_link_stays_there_where_its_whole_path_is_stated(
    linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = begin(linked.parent / ".headgate")

    monkeypatch.setenv("HEADGATE_STORE__DATA_DIR", str(old))

    assert load(linked).store.data_dir == old


def test_the_file_itself_and_what_is_no_installation_are_no_reason_to_stop(linked: Path) -> None:
    new = linked.parent.parent / "etc" / ".headgate"
    begin(linked.parent / ".headgate", "notes.txt")
    assert load(linked).store.data_dir == new
    begin(new)
    (linked.parent / ".headgate" / "server.conf").touch()

    assert load(linked).store.data_dir == new
    assert load(new.with_name("headgate.toml")).store.data_dir == new


def test_a_data_folder_that_is_itself_a_link_to_the_new_place_is_that_place(linked: Path) -> None:
    new = begin(linked.parent.parent / "etc" / "data")
    (linked.parent / ".headgate").symlink_to(new)
    (new.parent / ".headgate").symlink_to(new)

    assert load(linked).store.data_dir == new.parent / ".headgate"


def test_without_a_file_the_nearest_data_folder_is_used(
    tmp_path: Path, below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_WORKER__CONCURRENCY", "4")
    assert load().store.data_dir == below / ".headgate"

    (tmp_path / ".headgate").mkdir()

    assert load().store.data_dir == tmp_path / ".headgate"


@pytest.mark.parametrize("command", ["jobs", "status", "doctor", "worker", "flower", "submit"])
def test_a_command_that_finds_no_configuration_says_so_and_makes_nothing(
    command: str, below: Path
) -> None:
    file = below.parent / "rows.jsonl"
    file.touch()
    arguments = ["calls", str(file), "--client", "acme"] if command == "submit" else []

    result = CliRunner().invoke(main, [command, *arguments])

    assert result.exit_code == 2
    assert result.stderr.startswith("headgate: there is no configuration: ")
    assert "--config" in result.stderr
    assert list(below.iterdir()) == []


def give_away(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an entry, and not what it leads to, belong to somebody else."""
    if os.geteuid() == 0:
        os.chown(entry, 54321, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


@pytest.mark.parametrize("current", ["a/b", "."])
@pytest.mark.parametrize(
    ("entry", "name_it"),
    [
        ("headgate.toml", "name it with --config or HEADGATE_CONFIG"),
        (".headgate", "name it with its whole path as HEADGATE_STORE__DATA_DIR"),
    ],
)
def test_what_somebody_else_put_here_or_above_is_not_taken(
    entry: str, name_it: str, current: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = tmp_path / entry
    placed.mkdir() if entry == ".headgate" else placed.touch()
    give_away(placed, monkeypatch)
    monkeypatch.chdir(tmp_path / current)

    with pytest.raises(ConfigError, match=f"{entry} belongs to another user; {name_it} if you"):
        load()

    if entry == ".headgate":
        monkeypatch.setenv("HEADGATE_STORE__DATA_DIR", str(placed))
    else:
        monkeypatch.setenv("HEADGATE_CONFIG", str(placed))
    assert load().store.data_dir == tmp_path / ".headgate"


def test_a_link_that_somebody_else_put_there_is_not_taken(
    tmp_path: Path, below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").touch()
    (below / "headgate.toml").symlink_to(tmp_path / "mine.toml")
    give_away(below / "headgate.toml", monkeypatch)

    with pytest.raises(ConfigError, match="belongs to another user"):
        load()


def test_a_command_beside_a_configuration_of_somebody_else_is_one_sentence(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (below / "headgate.toml").touch()
    give_away(below / "headgate.toml", monkeypatch)

    result = CliRunner().invoke(main, ["config", "check"])

    assert result.exit_code == 2
    assert result.stderr.startswith(f"headgate: {below / 'headgate.toml'} belongs to another user;")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('[clients.acme\nbase_url = "x"\n', "in: [clients.acme"),
        ('[clients.acme]\nclient_secret = "tops3cret\n', "in: client_secret ="),
        ('[clients.acme]\ntops3cret"\n', "line 2"),
    ],
)
def test_a_file_that_is_no_toml_is_shown_by_its_line_without_its_value(
    text: str, shown: str, below: Path
) -> None:
    file = below / "headgate.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load()

    assert shown in str(caught.value)
    assert "tops3cret" not in str(caught.value)


def test_a_file_that_is_no_utf_8_is_one_sentence(below: Path) -> None:
    (below / "headgate.toml").write_bytes(b'[clients."K\xf6ln"]\n')

    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 12\); save it as UTF-8"):
        load()
