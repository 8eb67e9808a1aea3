"""`python -m orchestration.cli` is `headgate`."""

from __future__ import annotations

from orchestration.cli.commands import main

if __name__ == "__main__":
    main(prog_name="headgate")
