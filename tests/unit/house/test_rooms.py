"""What loads rooms above it by name, and how every script opens and starts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: What the modules of a room may import of the product.
ALLOWED = {
    "workers": {"workers"},
    "tasks": {"workers", "tasks"},
    "orchestration": {"workers", "tasks", "orchestration"},
}
#: The one inversion: Celery's application loads these by name.
INVERSION = {
    "workers/loader.py": {"tasks", "orchestration"},
    "workers/app.py": {"orchestration.dispatch.bootstep", "orchestration.kinds.registered"},
}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def loaded_by_name(file: Path) -> set[str]:
    """Texts of a module that name a room above it."""
    tree = ast.parse(file.read_text("utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {
        it for it in texts if isinstance(it, str) and it.split(".")[0] in ALLOWED and " " not in it
    }


def test_only_the_celery_application_loads_rooms_above_it_by_name() -> None:
    found = {
        str(file.relative_to(ROOT)): above
        for file in modules("workers")
        if (above := {it for it in loaded_by_name(file) if it.split(".")[0] != "workers"})
    }
    assert found == INVERSION


INCLUDES = sorted(f"includes/{file.name}" for file in (ROOT / "workers/lua/includes").glob("*.lua"))


def test_every_script_opens_with_its_contract() -> None:
    for file in sorted((ROOT / "workers/lua").glob("*.lua")):
        text = file.read_text("utf-8")
        if file.name == "prelude.lua":
            continue
        assert re.match(r"#!lua( flags=[a-z-]+)?\n-- ", text), file
        for part in ("KEYS[1]", "Returns", "Cost"):
            assert part in text.split("\nlocal")[0], f"{file} does not say its {part}"


#: What stands at the outer level of the prelude and of includes, which is run once, at load.
OUTER = re.compile(
    r"(--.*|end|local function \w+\(.*|local KEPT = \{flows = \{\}, .*\}|local (TX|JOB) = \{|\})?"
    r"|local [A-Z_]+(, [A-Z_]+)* = (\d+|\"[^\"]*\"|'[^']*')(, (\d+|\"[^\"]*\"))*"
    r"|local (?P<declared>\w+(, \w+)*)"
)


@pytest.mark.parametrize("name", ["prelude.lua", *INCLUDES])
def test_what_a_call_starts_from_is_set_before_every_call_and_not_at_load(name: str) -> None:
    text = (ROOT / "workers/lua" / name).read_text("utf-8")
    declared: set[str] = set()
    for line in text.splitlines():
        if line.startswith(" "):
            continue  # of a function, or of a table of the legend
        found = OUTER.fullmatch(line)
        assert found, f"{name} runs this once, for all calls: {line}"
        declared.update(filter(None, (found["declared"] or "").split(", ")))

    start = rf"^local function start_{Path(name).stem}\(.*( end|\n( .*\n)+end)$"
    body = re.search(start, text, re.MULTILINE)
    lists = re.findall(r"(?:\) |^  )(\w+(?:, \w+)*) = ", body[0] if body else "", re.MULTILINE)
    assert {it for names in lists for it in names.split(", ")} == declared
