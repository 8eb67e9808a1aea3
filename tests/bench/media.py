"""Transfers of files: what they cost the calls beside them, and a large one in memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.measure import ordinary_fleet, show
from tests.support.fleet import calls, until
from tests.support.media import CLIENT, GENESYS, arrived, check_media, folder, md5s, submit
from workers.settings.limits import LimitSettings, bucket

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

LIMIT = {"name": "app", "count": 100, "window_s": 1, "shape": "bucket"}
MB = 1_000_000


def files_beside_calls(files: int = 500, beside: int = 0) -> dict[str, Any]:
    """Files of 1 MB as prompts, and maybe a backlog of other calls."""
    with tempfile.TemporaryDirectory(prefix="hg-") as name:
        where = folder(Path(name, "in"), files, MB)
        with _fleet() as fleet:
            fleet.start_worker("w1", 32)
            fleet.start_worker("m1", 16, pool="media")
            time.sleep(3)
            job = submit(fleet, where)
            jobs = [job, *([fleet.submit(calls(beside), job="beside")] if beside else [])]
            until(lambda: all(fleet.ended(it) == fleet.job(it).rows for it in jobs), 300)
            check_media(fleet, *jobs)
            assert arrived(fleet) == md5s(where)
            return {
                "files": files,
                "calls beside": beside,
                "of the governed rate": _steady_rate(fleet)
                / (bucket(LimitSettings(**LIMIT)).rate or 1),
                "429s": fleet.report()["refused_429"],
                "doubled": fleet.report()["duplicates"],
            }


def one_large_file(size: int = 2_000_000_000) -> dict[str, Any]:
    """A sparse file: what the worker takes above its idle state while it is sent."""
    with tempfile.TemporaryDirectory(prefix="hg-") as name, _fleet() as fleet:
        Path(name, "in").mkdir()
        small, large = Path(name, "small.jsonl"), Path(name, "large.jsonl")
        for manifest, bytes_ in ((small, 1000), (large, size)):
            file = Path(name, "in", f"{manifest.stem}.wav")
            with file.open("wb") as opened:
                opened.truncate(bytes_)
            manifest.write_text(f'{{"path": "in/{file.name}"}}\n')
        fleet.start_worker("w1", 4)
        fleet.start_worker("m1", 4, pool="media")
        fleet.wait(submit(fleet, small, "assets"))
        time.sleep(3)
        status = Path(f"/proc/{fleet.worker_pid('m1')}/status")
        Path(status.with_name("clear_refs")).write_text("5")  # the peak counts from now on
        idle = _kb(status, "VmRSS")
        began = time.monotonic()
        job = submit(fleet, large, "assets")
        read_s = time.monotonic() - began
        until(lambda: fleet.ended(job) == 1, 300)
        check_media(fleet, job)
        assert fleet.report()["transfers"]["bytes"] == size + 1000
        return {
            "MB": size / MB,
            "s to submit": read_s,
            "s in all": time.monotonic() - began,
            "MB over the idle worker": (_kb(status, "VmHWM") - idle) / 1000,
        }


def _fleet() -> Fleet:
    return ordinary_fleet([LIMIT], sandbox={**GENESYS, "transcode_s": 0.5}, client=CLIENT)


def _steady_rate(fleet: Fleet) -> float:
    """Calls of the API a second between 15 % and 90 % of all: the last polls wait for nothing."""
    its = fleet.requests()
    moments = sorted(it["t_us"] for it in its if it.get("host") is None and it["kind"] != "token")
    low, high = int(len(moments) * 0.15), int(len(moments) * 0.9)
    return (high - low) / ((moments[high] - moments[low]) / 1e6)


def _kb(status: Path, field: str) -> int:
    (line,) = [it for it in status.read_text().splitlines() if it.startswith(f"{field}:")]
    return int(line.split()[1])


def main() -> None:
    """Run all of it."""
    show("500 files of 1 MB as prompts, limit 100/s", files_beside_calls())
    show("the same beside 2,000 other calls", files_beside_calls(beside=2000))
    show("one file of 2 GB", one_large_file())


if __name__ == "__main__":
    main()
