"""`headgate worker`: one supervised worker process."""

from __future__ import annotations

import os
import platform

import click

from orchestration.cli import options
from orchestration.supervisor import Supervisor, command as celery_worker
from workers.store import open_store


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--concurrency", "-c", type=click.IntRange(1, 1000), help="Threads; default: worker.concurrency.")
@click.option("--name", "-n", help="Name in Flower and in the logs; default: w and the process id.")
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
@options.configured
def command(concurrency: int | None, name: str | None, celery_options: tuple[str, ...]) -> None:
    r"""Run a worker, and start it again if it dies.

    It drains on SIGTERM: running calls finish, nothing new starts. Options after `--` go to the
    Celery worker.

    \b
    Example:  headgate worker --concurrency 64 --name w1
    Exit:     0 drained, 1 no store, 2 wrong configuration
    """
    clients = options.clients()
    open_store(clients.settings.store)
    threads = concurrency or clients.settings.worker.concurrency
    node = name or f"w{os.getpid()}"
    more = celery_options or ("--loglevel", "WARNING")
    click.echo(f"headgate: worker {node}@{platform.node()} with {threads} threads", err=True)
    raise SystemExit(Supervisor(celery_worker(node, threads, more), threads).run())
