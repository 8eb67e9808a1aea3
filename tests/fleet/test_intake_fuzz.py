"""Any bytes at all: a clear refusal, or a job whose rows are the file's, and nothing between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.dispatch import pages
from orchestration.intake import Options, Submission, accept, check
from orchestration.intake.readers.contacts import ContactOptions
from orchestration.kinds import find_kind
from tests.support.desk import Desk, a_call
from workers.errors import InputError

ROOT = Path(__file__).parents[2]
MAX_GROWTH_KIB = 40 * 1024

GOOD_LINE = json.dumps(a_call(body={"a": ["ü", 1.5]})).encode()
PIECES = [
    b"id,phone,name\n", b"id;phone;name\r\n", b"k1,+49 30 123456,Anna\n", b'k2,12345,"a\nb"\n',
    b'"', b'""', b",", b";", b"\t", b"\r", b"\n", b"\0", b"\xef\xbb\xbf", b"\xff", "ü".encode(),
    b"\xed\xa0\x80", GOOD_LINE + b"\n", GOOD_LINE[:-2], b"{", b"}", b"[", b'"id":', b"\\ud800",
    b'{"id":"a","steps":[{"name":"x","method":"GET","path":"/{x.y}"}]}\n', b"1e999", b"NaN",
]  # fmt: skip
FILES = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES)).map(b"".join))

_names = count()


@pytest.mark.parametrize("kind", ["calls", "contacts"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=FILES)
def test_any_file_is_refused_or_accepted_as_a_whole(desk: Desk, kind: str, content: bytes) -> None:
    path = desk.file("fuzz", content)
    options = Options()
    if kind == "contacts":
        options = ContactOptions(contact_list=f"l{next(_names)}", id_column="id")
    submission = Submission(client=desk.client, path=path, lane=1, options=options)
    before = desk.names()

    refused = ""
    try:
        with check(find_kind(kind), submission) as checked:
            job = accept(find_kind(kind), submission, checked, again=True).job
    except InputError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        assert desk.names() == before
        return

    rows = desk.rows(job)
    assert len(rows) == checked.rows > 0
    lines = [row["line"] for row in rows]
    assert lines == sorted(set(lines))
    assert lines[-1] <= len(content.splitlines()) + content.count(b"\n") + 1
    assert sum("error" in row for row in rows) == checked.rejected
    assert sum("joins" in row for row in rows) == checked.joined
    assert desk.client.ledger.job(job).started
    assert pages.open_next_page(desk.client, job) is not None


def test_memory_does_not_grow_with_the_file(desk: Desk) -> None:
    def submitted(rows: int) -> int:
        """Peak memory of a process that submits so many rows, KiB."""
        path = desk.file(f"{rows}.jsonl", [a_call(f"r{n}", body="x" * 200) for n in range(rows)])
        code = (
            "import resource, sys\n"
            "from orchestration.cli import main\n"
            "main(sys.argv[1:], standalone_mode=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "submit", "calls", path, "--client", "acme"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return int(done.stdout.split()[-1])

    assert submitted(100_000) - submitted(1_000) < MAX_GROWTH_KIB
