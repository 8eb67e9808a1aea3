"""`headgate report JOB`: what became of each row."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING

import click

from orchestration.cli.options import clients, configured
from orchestration.views.find import find_job
from orchestration.views.progress import snapshot
from orchestration.views.report import as_csv, as_jsonl, report
from workers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orchestration.views.report import TransactionStatus

_FORMATS: dict[str, Callable[[Iterable[TransactionStatus]], Iterator[str]]] = {
    "csv": as_csv,
    "jsonl": as_jsonl,
}


@click.command(epilog="Exit: 0 done, 1 the store is away or damaged, 2 unknown job or wrong usage.")
@click.argument("job")
@click.option(
    "--format", "form", type=click.Choice(list(_FORMATS)), default="csv", show_default=True
)
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where to; default stdout."
)
@configured
def command(job: str, form: str, output: Path | None) -> None:
    """Write one line for each row of JOB, in the order of the submitted file.

    \b
    Example:  headgate report c-1f0c8a2b9d4e --format csv --output may.report.csv
    Columns:  line, id, state, key, attempts, status, provider_id, correlation_id,
              done, error
    """  # noqa: D301 -- click wants the character itself
    client, stored = find_job(clients(), job)
    if not stored.started:
        look = snapshot(client, job)
        half = "was not submitted to its end; submit its file again"
        click.echo(f"{job} {half}" if not look.of else f"{job}: {look.not_begun}", err=True)
    with _opened(output) as file:
        for text in _FORMATS[form](report(client, job)):
            file.write(text.encode())


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that only its owner reads and that appears when it is whole."""
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        if output.exists() and not output.is_file():
            raise UsageError(f"{output} is not a file; name another output")
        with NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, output)  # noqa: PTH105 -- a name, not a Path
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written ({error.strerror}); name another output"
        ) from None
