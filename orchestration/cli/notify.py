"""`headgate notify`: tries how Headgate tells of events."""

from __future__ import annotations

import secrets
import time

import click

from orchestration.cli import options
from orchestration.notify.delivery import Undelivered, one_try, open_delivery
from orchestration.notify.events import EventType, Notice
from workers.errors import ConfigError, HeadgateError


@click.group()
def command() -> None:
    """Try how Headgate tells of events."""


@command.command("test")
@options.configured
def deliver_test() -> None:
    """Deliver one notice of the event `test`, once, by the command or URL of [notify].

    What the command prints is shown. No store is needed, and nothing is repeated.

    \b
    Example:  headgate notify test
    Exit:     0 delivered, 1 not delivered, 2 wrong configuration, or nobody is to be told
    """
    settings = options.settings().notify
    if not settings.is_on:
        raise ConfigError("notify: there is neither command nor url; set one under [notify]")
    delivery = open_delivery(settings, show=True)
    now_us = round(time.time() * 1e6)
    text = "this is a test: Headgate would tell of an event like this"
    notice = Notice.of(EventType.TEST, (secrets.token_hex(8),), now_us, text)
    try:
        with one_try():
            delivery.deliver(notice)
    except Undelivered as error:
        raise HeadgateError(f"the notice was not delivered: {error}") from None
    click.echo(f"delivered to {settings.host or settings.argv[0]}: notice {notice.id}")
