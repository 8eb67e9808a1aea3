"""The command `headgate`: data on stdout, messages on stderr, exit codes that scripts can use.

Each module below is one command; `commands` finds them by name, and `options` and `changes` hold
the options that several share. A command reads its arguments and prints what `views` and `operate`
answer; it never decides anything of its own about jobs, limits or transactions.

Exit codes: 0 done, 1 it could not be done or some rows did not succeed, 2 wrong usage or input.
"""

from __future__ import annotations

from orchestration.cli.commands import COMMANDS, main

__all__ = ["COMMANDS", "main"]
