"""The rooms: imports point one way, and what is public has a name that is not used twice."""

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
    "workers/app.py": {"orchestration.dispatch.bootstep", "orchestration.kinds.registered"}
}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def loaded_by_name(file: Path) -> set[str]:
    """Texts of a module that name a room above it."""
    tree = ast.parse(file.read_text("utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {
        it for it in texts if isinstance(it, str) and it.split(".")[0] in ALLOWED and " " not in it
    }


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room: str) -> None:
    for file in modules(room):
        tops = {name.split(".")[0] for name in imported(file)} & ALLOWED.keys()
        assert tops <= ALLOWED[room], f"{file} imports {tops - ALLOWED[room]}"


def test_only_the_celery_application_loads_rooms_above_it_by_name() -> None:
    found = {
        str(file.relative_to(ROOT)): above
        for file in modules("workers")
        if (above := {it for it in loaded_by_name(file) if it.split(".")[0] != "workers"})
    }
    assert found == INVERSION


def test_the_sandbox_imports_nothing_else_of_the_product() -> None:
    for file in modules("orchestration/sandbox"):
        ours = {name for name in imported(file) if name.split(".")[0] in ALLOWED}
        assert all(name.startswith("orchestration.sandbox") for name in ours), file


def test_every_module_says_what_it_is_for() -> None:
    for room in ALLOWED:
        for file in modules(room):
            assert ast.get_docstring(ast.parse(file.read_text("utf-8"))), file


INCLUDES = sorted(f"includes/{file.name}" for file in (ROOT / "workers/lua/includes").glob("*.lua"))

#: Lines of a script below its header.
LONGEST_SCRIPT = 80


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
    r"(--.*|end|local function \w+\(.*|local KEPT = \{flows = \{\}, .*\})?"
    r"|local [A-Z_]+(, [A-Z_]+)* = (\d+|\"[^\"]*\"|'[^']*')(, (\d+|\"[^\"]*\"))*"
    r"|local (?P<declared>\w+(, \w+)*)"
)


@pytest.mark.parametrize("name", ["prelude.lua", *INCLUDES])
def test_what_a_call_starts_from_is_set_before_every_call_and_not_at_load(name: str) -> None:
    text = (ROOT / "workers/lua" / name).read_text("utf-8")
    declared: set[str] = set()
    for line in text.splitlines():
        if line.startswith(" "):
            continue  # of a function
        found = OUTER.fullmatch(line)
        assert found, f"{name} runs this once, for all calls: {line}"
        declared.update(filter(None, (found["declared"] or "").split(", ")))

    start = rf"^local function start_{Path(name).stem}\(.*( end|\n( .*\n)+end)$"
    body = re.search(start, text, re.MULTILINE)
    lists = re.findall(r"(?:\) |^  )(\w+(?:, \w+)*) = ", body[0] if body else "", re.MULTILINE)
    assert {it for names in lists for it in names.split(", ")} == declared


def test_every_script_and_include_is_short_enough_to_read_at_once() -> None:
    for file in sorted((ROOT / "workers/lua").rglob("*.lua")):
        code = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("--")]
        assert len(list(filter(None, code))) <= LONGEST_SCRIPT, file
