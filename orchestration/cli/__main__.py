"""`python -m orchestration.cli` is `headgate`."""

from orchestration.cli import main

if __name__ == "__main__":
    main(prog_name="headgate")
