"""Options that many commands share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from workers.clients import Clients
from workers.settings.load import load

if TYPE_CHECKING:
    from collections.abc import Callable

#: The exit code of a command that Ctrl-C ended, as shells have it.
INTERRUPTED = 130


def _chosen(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    del ctx, param
    if value:
        os.environ["HEADGATE_CONFIG"] = os.path.abspath(value)  # noqa: PTH100 -- keeps links
    return value


def configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--config`; what it starts reads the same file."""
    return click.option(
        "--config",
        metavar="FILE",
        callback=_chosen,
        expose_value=False,
        is_eager=True,
        help="Configuration file; default HEADGATE_CONFIG, then ./headgate.toml.",
    )(function)


as_json: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people."
)


def clients() -> Clients:
    """The clients of the chosen configuration."""
    return Clients(load())
