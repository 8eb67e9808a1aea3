"""Which configuration a process reads, and in which folder its data lies.

A command belongs to the configuration that it reads, not to the folder in which it is given: two
folders below one `headgate.toml` are one installation, with one store and one quota.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What is looked for when neither `--config` nor `HEADGATE_CONFIG` names a file.
DEFAULT_FILE: Final = "headgate.toml"
#: Links that are followed one after the other, as Linux does.
_MOST_LINKS: Final = 40


def find_file(given: str | os.PathLike[str] | None = None) -> Path | None:
    """Find the file to read: the one that is given, else HEADGATE_CONFIG's, else the nearest one.

    Returns:
        The nearest `headgate.toml` of the current folder and those above it; None = there is none.

    Raises:
        ConfigError: the nearest one belongs to somebody else.
    """
    named = given or os.environ.get("HEADGATE_CONFIG")
    if named:
        return Path(named)
    folder = _nearest(DEFAULT_FILE)
    return folder / DEFAULT_FILE if folder else None


def find_folder(data_dir: Path, file: Path | None, *, in_environment: bool) -> Path:
    """Find the data folder: beside its file, else the nearest one, else one in the current folder.

    Args:
        data_dir: As it is configured; a relative path, or an absolute one.
        file: The configuration that was read, if one was.
        in_environment: Whether the environment sets values of the configuration.

    Raises:
        ConfigError: nothing is configured, and no data folder is there either, or it belongs to
            somebody else; or an earlier release left an installation elsewhere.
    """
    data_dir = data_dir.expanduser()
    if file is not None:
        beside_file = name_whole(find_itself(file).parent / data_dir)
        _require_nothing_left(file.absolute().parent / data_dir, beside_file)
        return beside_file
    if data_dir.is_absolute():
        return data_dir
    if folder := _nearest(data_dir):
        return folder / data_dir
    if in_environment:
        return Path.cwd() / data_dir
    raise ConfigError(
        f"there is no configuration: {Path.cwd()} and the folders above it have neither "
        f"{DEFAULT_FILE} nor {data_dir}; name the file with --config or HEADGATE_CONFIG, or write "
        f"{DEFAULT_FILE} as the README shows"
    )


def name_whole(entry: Path) -> Path:
    """The path of an entry from the root, by no link of a folder above and no `..`."""
    return Path(os.path.realpath(entry.parent)) / entry.name


def find_itself(file: Path) -> Path:
    """The path of a configuration itself, by whatever path or link it is named.

    A link that leads through a link of a folder below its own stands for the file.
    """
    file = name_whole(file)
    for _ in range(_MOST_LINKS):
        if not file.is_symlink() or _is_versioned(file):
            break
        file = name_whole(file.parent / file.readlink())
    return file


def _is_versioned(link: Path) -> bool:
    """Whether a link leads through a link of a folder below its own, so to another one each time.

    So Kubernetes mounts files: headgate.toml leads to ..data/headgate.toml, and each update lets
    ..data lead to a new folder. The data must not move with it.
    """
    folder = Path(os.path.normpath(link.parent / link.readlink())).parent
    return folder.is_relative_to(link.parent) and folder != Path(os.path.realpath(folder))


def _require_nothing_left(beside_link: Path, folder: Path) -> None:
    """Begin no installation while there is one where earlier releases looked: beside the link."""
    left = Path(os.path.realpath(beside_link))
    if left == Path(os.path.realpath(folder)) or not _is_used(left) or _is_used(folder):
        return
    raise ConfigError(
        f"this configuration is named by a link, and its installation lies in {left}, beside the "
        f"link, but data now lie beside the file itself, in {folder}: rows that were sent would "
        f"be sent again; stop its workers and move the folder to the new place, or keep it where "
        f'it is with store.data_dir = "{left}"'
    )


def _is_used(folder: Path) -> bool:
    """Whether a data folder holds an embedded store, or the memory of a server."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return False
    return any(name == "server.conf" or name.startswith("installation.") for name in names)


def _nearest(name: str | Path) -> Path | None:
    """The current folder or the nearest one above it that has this entry."""
    for folder in _upwards():
        if (folder / name).exists():
            _require_own(folder / name)
            return folder
    return None


def _upwards() -> Iterator[Path]:
    here = Path.cwd()
    yield here
    yield from here.parents


def _require_own(entry: Path) -> None:
    """Take nothing that was not named and that somebody else may have put there.

    A configuration names files and variables with secrets, and hosts to send them to. A folder
    above, or the current one, may be one to which others write, such as /tmp.
    """
    owners = {entry.lstat().st_uid, entry.stat().st_uid}  # of a link, and of what it leads to
    if owners <= {0, os.geteuid()}:
        return
    name_it = "name it with its whole path as HEADGATE_STORE__DATA_DIR"
    if entry.name == DEFAULT_FILE:
        name_it = "name it with --config or HEADGATE_CONFIG"
    raise ConfigError(f"{entry} belongs to another user; {name_it} if you trust it")
