"""Loaded by a worker of the bench: counts scripts, time in steps and time in HTTP calls.

The sums go to `$HEADGATE_PROBE/<pid>.json` twice a second.
"""

# Plain code without annotations: it stands in for product code of every signature.
# ruff: noqa: ANN001, ANN002, ANN003, ANN202, ARG002

import json
import os
import sys
import threading
import time
from collections import Counter
from importlib.abc import MetaPathFinder
from pathlib import Path

FOLDER = os.environ.get("HEADGATE_PROBE")
sums = Counter()


def _timed(name, function):
    def run(*args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            sums[f"{name}_s"] += time.perf_counter() - began
            sums[name] += 1

    run.__name__ = function.__name__
    return run


def _counted(function):
    def run(self, name, *args):
        sums[f"script_{name}"] += 1
        return function(self, name, *args)

    return run


def _grants(function):
    def run(self, *asked, **options):
        answer = function(self, *asked, **options)
        sums[f"admit_{type(answer).__name__}"] += 1
        return answer

    return run


def _write():
    while True:
        time.sleep(0.5)
        cpu = os.times()
        text = json.dumps({**sums, "cpu_s": cpu.user + cpu.system})
        file = Path(FOLDER, f"{os.getpid()}.json")
        file.with_suffix(".new").write_text(text)
        file.with_suffix(".new").rename(file)


class _Probe(MetaPathFinder):
    """Spikes the other modules when a worker loads the dispatcher's, which is the last of all."""

    def find_spec(self, name, path, target=None):
        if name != "orchestration.dispatch.dispatcher":
            return
        sys.meta_path.remove(self)
        from tasks.steps.call import Step
        from workers.governor.governor import Governor
        from workers.http.connection import Connection
        from workers.store.scripts import Scripts

        Connection.send = _timed("http", Connection.send)
        Governor.admit = _grants(Governor.admit)
        Scripts.__call__ = _counted(Scripts.__call__)
        for cls in Step.__subclasses__():
            cls.run = _timed("step", Step.run)
        threading.Thread(target=_write, daemon=True).start()


if FOLDER:
    sys.meta_path.insert(0, _Probe())
