"""The options of commands that change something for the whole fleet: why, and who."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workers.ledger import audit

if TYPE_CHECKING:
    from collections.abc import Callable


def _said(ctx: click.Context, param: click.Parameter, value: str) -> str:
    text = audit.plain(value)
    if not text:
        raise click.BadParameter("say it in a few words", ctx, param)
    return text


def reasoned(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--reason` and `--by`; both are kept in the audit."""
    for option in (
        click.option(
            "--by", metavar="NAME", default=audit.user, callback=_said,
            help="Who does it; the user of this system, if left out.",
        ),
        click.option(
            "--reason", required=True, metavar="TEXT", callback=_said,
            help="Why: one sentence for the audit and for status.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function
