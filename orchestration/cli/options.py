"""Options that many commands share, and the settings that a command works with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from workers.clients import Clients
from workers.ledger.installation import where
from workers.settings.load import Settings, load
from workers.settings.place import find_file, name_whole

if TYPE_CHECKING:
    from collections.abc import Callable

#: The exit code of a command that Ctrl-C ended, as shells have it.
INTERRUPTED: Final = 130
#: Where click's context keeps the file that was named; a command sees that of the group above it.
_CONFIG_FILE: Final = "headgate.config_file"
#: The same of the settings that were read.
_SETTINGS: Final = "headgate.settings"


def _keep_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    del param
    if value:
        ctx.meta[_CONFIG_FILE] = value.absolute()


def configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--config`; `settings` and `clients` read what it names."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        callback=_keep_file,
        expose_value=False,
        is_eager=True,
        help="Configuration file; default HEADGATE_CONFIG, then the nearest headgate.toml upwards.",
    )(function)


as_json: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people."
)


def config_file() -> Path | None:
    """The file that `--config` named to the running command; None when it named none."""
    file: Path | None = click.get_current_context().meta.get(_CONFIG_FILE)
    return file


def settings() -> Settings:
    """The settings of the running command: read once, and kept in click's context.

    Raises:
        ConfigError: the configuration is wrong.
    """
    meta = click.get_current_context().meta
    if _SETTINGS not in meta:
        meta[_SETTINGS] = load(config_file())
    loaded: Settings = meta[_SETTINGS]
    return loaded


def place() -> str:
    """Which store and which file the running command uses; raises as `settings`."""
    store = where(settings().store)
    file = find_file(config_file())
    named = f"configuration {name_whole(file)}" if file else "no configuration file"
    return f"store {store}, {named}"


def clients() -> Clients:
    """The clients of the running command's settings."""
    return Clients(settings())
