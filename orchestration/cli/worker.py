"""`headgate worker`: one supervised worker process."""

from __future__ import annotations

import os
import platform
import re
import warnings
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from orchestration.cli import options
from orchestration.text import format_count
from orchestration.views.workers import require_alive
from workers.clients import use_settings
from workers.errors import UsageError
from workers.governor.flows import CALLS_POOL, POOLS
from workers.http.connection import count_descriptors, require_descriptors
from workers.ledger.installation import Installation
from workers.settings.load import load
from workers.settings.values import NAME
from workers.store.connection import broker_url_of, connect, require_durable, url_of
from workers.store.tls import require_usable

if TYPE_CHECKING:
    from pathlib import Path

    from workers.settings.load import Settings


@click.command()
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 1000),
    help="Threads; default: worker.concurrency of the configuration.",
)
@click.option("--name", "-n", help="Name in Flower and in the logs; default: w and a number.")
@click.option(
    "--for",
    "pool",
    type=click.Choice(POOLS),
    default=CALLS_POOL,
    show_default=True,
    help="What its threads do: calls of the API, or transfers of files, without a token.",
)
@click.option(
    "--loglevel",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="What the worker logs; INFO is two lines a call.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Look whether the worker of this --name on this host works and takes bells, and end.",
)
@options.configured
def command(
    concurrency: int | None, name: str | None, pool: str, loglevel: str, *, check: bool
) -> None:
    """Run a worker, and start it again if it dies.

    It drains on SIGTERM: running calls finish, and nothing new starts. Files are transferred by
    workers of their own (--for media), so that long transfers never take a thread from calls.

    \b
    Example:  headgate worker --concurrency 64 --name w1
              headgate worker --for media --concurrency 16
              headgate worker --name w1 --check
    Exit:     0 drained, or alive (--check), 1 no store or not the remembered one, or not alive
              (--check), 2 wrong configuration or usage
    """
    if name is not None and not re.fullmatch(NAME, name):
        raise UsageError(
            "--name must be at most 64 letters, digits, dots, dashes and underscores, and begin "
            "with a letter or digit"
        )
    if check:
        if name is None:
            raise UsageError("--check needs the --name of the worker")
        require_alive(options.clients(), name, platform.node())
        return
    _run(concurrency, name, pool, loglevel)


def _run(concurrency: int | None, name: str | None, pool: str, loglevel: str) -> NoReturn:
    """Run the worker until it has drained, and exit as it did."""
    from celery.exceptions import SecurityWarning

    from orchestration.dispatch.presence import report_failing
    from orchestration.dispatch.supervisor import Supervisor, run_celery_worker

    read = partial(_read_settings, options.config_file(), concurrency)
    settings = read()
    require_descriptors(count_descriptors(settings.worker.concurrency))
    use_settings(read)  # the forked worker reads them anew
    require_usable(broker_url_of(settings.store))
    # The forked workers open connections of their own.
    with connect(url_of(settings.store)) as store:
        require_durable(store, settings.store)
        Installation(store, settings.store).check()
    node, threads = name or f"w{os.getpid()}", settings.worker.concurrency
    sentence = f"worker {node}@{platform.node()} with {format_count(threads, 'thread')} for {pool}"
    if not os.geteuid():
        # Celery says the same in six lines, at each start of the process.
        sentence += ", as root: a user of its own is safer"
        warnings.filterwarnings("ignore", category=SecurityWarning)
    click.echo(f"headgate: {sentence}", err=True)
    work = partial(run_celery_worker, node, threads, loglevel, pool)
    report = partial(report_failing, settings, node, pool)
    raise SystemExit(Supervisor(work, report).run())


def _read_settings(file: Path | None, concurrency: int | None) -> Settings:
    """The settings of this worker: those of the file, with the threads of the command line."""
    settings = load(file)
    if concurrency is None:
        return settings
    worker = settings.worker.model_copy(update={"concurrency": concurrency})
    return settings.model_copy(update={"worker": worker})
