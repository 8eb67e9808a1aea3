"""`headgate sandbox`: the local stand-in for a provider."""

from __future__ import annotations

import click

from orchestration.sandbox.__main__ import serve


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=True,
)
@click.argument("sandbox_options", nargs=-1, type=click.UNPROCESSED)
def command(sandbox_options: tuple[str, ...]) -> None:
    """Run a provider on this machine that enforces limits, keeps a journal and fails on command.

    The sandbox shares no code with the rest of Headgate, which it tests. GET /_sandbox/report
    returns what happened. It counts duplicates by the field business_id of a JSON body, or by the
    header X-Business-Id; a call with neither counts by its idempotency key.

    \b
    Options:  --port PORT       where to listen; 0 = any free port, which is printed
              --transfer-port PORT    where files are sent to; default any free port
              --host HOST       default 127.0.0.1
              --config JSON     an object, or a file that holds one: clients, limits, faults …
              --journal FILE    where every request is recorded; default: in memory only
              --parent PID      end when this process is gone
    Example:  headgate sandbox --port 8080 --config '{"latency_ms": 80}'
    Exit:     0 asked to stop, 2 wrong option, configuration or address
    """
    raise SystemExit(serve(sandbox_options))
