"""The options of commands that change something for the whole fleet: why, and who does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workers.ledger import audit

if TYPE_CHECKING:
    from collections.abc import Callable


def _require_text(ctx: click.Context, param: click.Parameter, value: str) -> str:
    text = audit.plain(value)
    if not text:
        raise click.BadParameter("say it in a few words", ctx, param)
    return text


def reasoned(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--reason` and `--by`; the audit keeps both."""
    for option in (
        click.option(
            "--by", metavar="NAME", default=audit.user, callback=_require_text,
            help="Who does it; default: the user of this system.",
        ),
        click.option(
            "--reason", required=True, metavar="TEXT", callback=_require_text,
            help="Why: one sentence, which audit and status show.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function
