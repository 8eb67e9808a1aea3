"""Which store a configuration used last is remembered of the file, by whatever path it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.world import World
    from workers.store.connection import Store

WHY = ("--reason", "we moved", "--by", "maria")


def elsewhere(world: World) -> str:
    """The URL of another database of the tests' server: another store."""
    return f"{world.store_url.rpartition('/')[0]}/7"


def lead_elsewhere(world: World) -> None:
    world.config.write_text(world.config.read_text().replace(world.store_url, elsewhere(world)))


@pytest.fixture
def there(world: World) -> Iterator[Store]:
    """The other store; what the test leaves there is removed."""
    with connect(elsewhere(world)) as store:
        yield store
        for key in list(store.scan_iter("*")):
            store.delete(key)


def by_a_link(config: Path, away: Path) -> Path:
    link = away / "headgate.toml"
    link.symlink_to(config)
    return link


def by_a_link_of_its_folder(config: Path, away: Path) -> Path:
    (away / "etc").symlink_to(config.parent)
    return away / "etc" / config.name


def by_a_path_that_goes_up(config: Path, _: Path) -> Path:
    return config.parent / ".." / config.parent.name / config.name


@pytest.mark.parametrize("first", ["by its own path", "by the other path"])
@pytest.mark.parametrize("path", [by_a_link, by_a_link_of_its_folder, by_a_path_that_goes_up])
def test_by_every_path_of_one_file_a_store_that_is_named_by_mistake_is_not_begun_anew(
    path: Callable[[Path, Path], Path],
    first: str,
    world: World,
    there: Store,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [world.config, path(world.config, tmp_path_factory.mktemp("away"))]
    used, other = paths if first == "by its own path" else reversed(paths)
    monkeypatch.setenv("HEADGATE_CONFIG", str(used))
    assert world.run("client", "resume", "acme", *WHY).exit_code == 0
    lead_elsewhere(world)
    monkeypatch.setenv("HEADGATE_CONFIG", str(other))

    result = world.run("client", "resume", "acme", *WHY)

    assert result.exit_code == 1
    assert "this configuration used the store" in result.stderr
    assert list(there.scan_iter("*")) == []


@pytest.mark.parametrize(
    "named", ["mount/headgate.toml", "mount/..data/headgate.toml", "link.toml"]
)
def test_an_update_of_a_mounted_file_that_names_a_store_by_mistake_does_not_begin_anew(
    named: str, world: World, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, text = world.config.parent, world.config.read_text()
    mount = folder / "mount"
    lead_elsewhere(world)
    for version, content in (("..1", text), ("..2", world.config.read_text())):
        (mount / version).mkdir(parents=True)
        (mount / version / "headgate.toml").write_text(content)
    (mount / "..data").symlink_to("..1")
    (mount / "headgate.toml").symlink_to("..data/headgate.toml")
    (folder / "link.toml").symlink_to("mount/headgate.toml")
    monkeypatch.setenv("HEADGATE_CONFIG", str(folder / named))
    monkeypatch.setenv("HEADGATE_STORE__DATA_DIR", str(folder / "data"))
    assert world.run("client", "resume", "acme", *WHY).exit_code == 0

    (mount / "..data").unlink()
    (mount / "..data").symlink_to("..2")

    assert world.run("client", "resume", "acme", *WHY).exit_code == 1
    assert list(there.scan_iter("*")) == []
