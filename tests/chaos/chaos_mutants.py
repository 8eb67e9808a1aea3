"""Each line broken on purpose must turn `make test` red: the tests are known to see."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
#: What `make test` runs, the fastest tiers first.
TIERS = [f"tests/{tier}" for tier in ("scripts", "unit", "sandbox", "fleet", "cluster", "browser")]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda it: it.name)
def test_a_broken_line_turns_the_tests_red(mutant: Mutant, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    file = tree / mutant.file
    file.write_text(file.read_text("utf-8").replace(mutant.old, mutant.new), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *TIERS],
        cwd=tree,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 1, done.stdout[-2000:]
    assert " failed" in done.stdout
