"""One configured client in a namespace of its own, and the files that are submitted for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

from typing import TYPE_CHECKING

from orchestration.intake.readers.calls import read_calls
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from workers.ledger.ledger import Row

from operator import itemgetter
from typing import TYPE_CHECKING
from uuid import uuid4

from click.testing import CliRunner

from orchestration.cli import main
from workers.clients import Clients
from workers.ledger.batch import rows_of
from workers.settings.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from workers.clients import Client
    from workers.ledger.ledger import Row
    from workers.store.connection import Store


class Desk:
    """The client `acme`; nobody listens where its provider should be."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self.folder = folder
        self.namespace = uuid4().hex
        self._store_url = store_url
        self.config = folder / "headgate.toml"
        self.configure()

    def configure(self, client: str = 'idempotency = "key"', store: str = "") -> None:
        """Write the configuration anew, with these lines in its sections."""
        self.config.write_text(
            f'[store]\nurl = "{self._store_url}"\nnamespace = "{self.namespace}"\n{store}\n'
            f'[clients.acme]\nbase_url = "http://127.0.0.1:9"\n{client}\n'
            f'[[clients.acme.limits]]\nname = "app"\ncount = 200\n'
        )
        self.client: Client = Clients(load(self.config))["acme"]

    @property
    def store(self) -> Store:
        return self.client.store

    def file(self, name: str, content: bytes | str | list[Any]) -> Path:
        """A file of these bytes, this text, or these values as JSON lines."""
        path = self.folder / name
        if isinstance(content, list):
            content = "".join(json.dumps(it) + "\n" for it in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, *args: object) -> Result:
        """What `headgate ARGS` does in this process."""
        return CliRunner().invoke(main, [str(it) for it in args], catch_exceptions=False)

    def submit(self, kind: str, content: bytes | str | list[Any], *args: object) -> Result:
        """Submit such a file with --json."""
        path = self.file("rows.jsonl" if kind == "calls" else "rows.csv", content)
        return self.run("submit", kind, path, "--client", "acme", "--json", *args)

    def accepted(
        self, kind: str, content: bytes | str | list[Any], *args: object
    ) -> dict[str, Any]:
        """Submit such a file, which must work; returns what the command answers."""
        result = self.submit(kind, content, *args)
        assert result.exit_code == 0, result.stderr
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def rows(self, job: str) -> list[Row]:
        """All rows of a job as the store keeps them."""
        pages = self.client.ledger.job(job).pages
        found: list[Row] = []
        for page in range(pages):
            rows = [row for it in self.client.ledger.page(job, page) for row in rows_of(it)]
            found += sorted(rows, key=itemgetter("line"))  # as the report does
        return found

    def names(self) -> list[str]:
        """Every name in the store that belongs to this desk."""
        return sorted(self.store.scan_iter(f"{self.namespace}:*"))


def a_call(row_id: str = "a", **fields: Any) -> dict[str, Any]:
    """A good line of a calls file, with these fields."""
    return {"id": row_id, "method": "POST", "path": "/things", **fields}


ACME = ClientSettings.model_validate(
    {"name": "acme", "base_url": "http://127.0.0.1:9", "idempotency_header": "X-Once"}
)


KEYED = ACME.model_copy(update={"idempotency": "key"})


def read(*texts: str | None, client: ClientSettings = ACME) -> list[Row]:
    return list(read_calls(enumerate(texts, 1), client))


def read_one(line: Any, client: ClientSettings = ACME) -> Row:
    (row,) = read(line if isinstance(line, str) else json.dumps(line), client=client)
    return row


def chain(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    named = [{"name": f"s{n}", "method": "POST", "path": "/x", **it} for n, it in enumerate(steps)]
    return {"id": "a", "steps": named, **fields}


def reported(desk: Desk, job: str) -> list[dict[str, Any]]:
    result = desk.run("report", job, "--format", "jsonl")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]
