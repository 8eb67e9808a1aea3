"""The memory of one real worker at work on the largest legal rows, each kind of them in its turn.

    python -m tests.bench.memory

A row is one line of at most 512,000 bytes. Which content takes the most memory differs: many small
values once it is read, one character beyond Latin-1 as text.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestration import intake
from orchestration.intake.readers.source import MAX_LINE
from orchestration.intake.readers.strict_json import MAX_VALUES
from orchestration.kinds import find_kind
from tests.bench.measure import ordinary_fleet, show
from tests.support.fleet import until

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

THREADS: Final = 32
ROWS: Final = 2 * THREADS
#: MB that the worker process may have resident at any moment.
BOUND_MB: Final = 300.0
#: Does not bind, so that all threads are in a call.
LIMIT: Final = {"name": "app", "count": 2000}
#: Seconds in which a worker is up and warm.
WARM_UP_S: Final = 5.0


def bodies() -> dict[str, Any]:
    """What a row sends, by what is large in it: its text, or the number of its values."""
    room, most = MAX_LINE - 200, MAX_VALUES - 10
    levels = 50
    nested = [_nest(number * levels, levels) for number in range(most // (levels + 1))]
    return {
        "one long text": "a" * room,
        "a long text with one wide character": "a" * (room - 4) + "\N{GRINNING FACE}",
        "many small objects": [{} for _ in range(most)],
        "many members": {f"{number:016x}": f"{number:x}" for number in range(room // 28)},
        "many nested objects": nested,
    }


def _nest(first: int, levels: int) -> dict[str, Any]:
    """Objects within objects, each with one member of a name of its own."""
    value: dict[str, Any] = {}
    for number in range(first, first + levels):
        value = {f"{number:08x}": value}
    return value


def line(number: int, body: object) -> str:
    """A row of the file."""
    row = {"id": f"r{number}", "method": "POST", "path": "/things", "body": body}
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    assert len(text.encode()) <= MAX_LINE
    return text + "\n"


def memory_mb(pid: int, name: str) -> float:
    """What a process has resident now (VmRSS), or had at most (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return int(found[1]) / 1000


def submit(fleet: Fleet, name: str, body: object) -> str:
    """Submit so many rows of this body as a file; returns the job."""
    file = fleet.folder / f"{name.replace(' ', '-')}.jsonl"
    with file.open("w") as lines:
        lines.writelines(line(number, body) for number in range(ROWS))
    submission = intake.Submission(client=fleet.client, path=file, lane=1, options=intake.Options())
    kind = find_kind("calls")
    with intake.check(kind, submission) as checked:
        return intake.accept(kind, submission, checked).job


def measure_memory() -> dict[str, Any]:
    """One worker of 32 threads on the largest rows of each kind.

    Raises:
        AssertionError: it took more than the bound.
    """
    figures: dict[str, Any] = {}
    sandbox = {"latency_ms": 500}
    with ordinary_fleet([LIMIT], sandbox=sandbox, worker={"concurrency": THREADS}) as fleet:
        fleet.start_worker("w0", THREADS)
        pid = fleet.worker_pid("w0")
        time.sleep(WARM_UP_S)
        figures["idle, MB"] = memory_mb(pid, "VmRSS")
        for name, body in bodies().items():
            job = submit(fleet, name, body)
            until(lambda job=job: fleet.ended(job) == ROWS, 300, f"the end of {name}", fleet)  # type: ignore[misc]
            figures[f"{name}, MB"] = memory_mb(pid, "VmHWM")
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        assert fleet.worker_pid("w0") == pid, "the worker was started again"
    most = max(figures.values())
    figures["of the bound"] = most / BOUND_MB
    assert most < BOUND_MB, figures
    return figures


def main() -> None:
    """Measure, and show it."""
    show(f"memory of a worker of {THREADS} threads, rows of {MAX_LINE:,} bytes", measure_memory())


if __name__ == "__main__":
    main()
