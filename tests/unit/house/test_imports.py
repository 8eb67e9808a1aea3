"""Imports point one way, no files form a circle, and no room imports its own face."""

from __future__ import annotations

import ast
from typing import Final

from tests.support.source import TOPS, circles, imports, modules

#: The packages of each top folder, the lowest first. What stands lower imports nothing above it;
#: packages of one floor do not import each other.
FLOORS: Final = {
    "workers": (
        {"errors", "cache", "clock", "failpoints", "handshake"},
        {"settings"},
        {"store"},
        {"answer"},
        {"http"},
        {"auth", "ledger"},
        {"governor"},
        {"broker", "clients", "loader"},
        {"session", "app"},
    ),
    "tasks": ({"kind"}, {"steps", "rest"}, {"genesys"}, {"governed"}),
    "orchestration": (
        {"text", "sandbox"},
        {"intake"},
        {"kinds"},
        {"views"},
        {"notify"},
        {"dispatch"},
        {"operate"},
        {"transactions"},
        {"demo"},
        {"cli"},
    ),
}


def floor(name: str) -> tuple[int, int]:
    """Where a module stands: its top folder, and its floor there; a top's own face is highest."""
    top, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    floors = FLOORS[top]
    if not first:
        return TOPS.index(top), len(floors)
    return TOPS.index(top), next(at for at, names in enumerate(floors) if first in names)


def test_every_package_has_its_floor() -> None:
    placed = {
        f"{top}.{name}" for top, floors in FLOORS.items() for names in floors for name in names
    }
    there = {".".join(name.split(".")[:2]) for name in modules() if "." in name}
    assert there == placed


def test_no_file_imports_one_that_stands_above_it() -> None:
    upward = [
        f"{module.place} imports {name}"
        for module in modules().values()
        for name in imports(module)
        if floor(name) > floor(module.name)
        or (floor(name) == floor(module.name) and name.split(".")[:2] != module.name.split(".")[:2])
    ]
    assert not upward, "\n".join(sorted(upward))


def test_no_files_import_each_other_in_a_circle() -> None:
    arrows = {name: imports(module) for name, module in modules().items()}
    assert circles(arrows) == []


def test_no_module_imports_the_face_of_its_own_package() -> None:
    inward = [
        f"{module.place} imports {module.package}"
        for name, module in modules().items()
        if not module.is_face
        and not name.endswith("__main__")  # what `python -m package` runs is the package itself
        and module.package in imports(module)
    ]
    assert not inward, "\n".join(inward)


def test_every_face_is_short_and_says_what_it_offers() -> None:
    for module in modules().values():
        if module.is_face and module.name not in TOPS:
            names = {
                target.id
                for node in module.tree.body
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            assert len(module.text.splitlines()) < 40, module.place
            assert "__all__" in names, f"{module.place} states no __all__"


def test_no_face_imports_a_module_that_is_run_by_name() -> None:
    run = {"workers.store.keeper"} | {name for name in modules() if name.endswith("__main__")}
    for module in modules().values():
        if module.is_face:
            assert not imports(module) & run, module.place


def test_the_sandbox_imports_nothing_else_of_the_product() -> None:
    for name, module in modules().items():
        if name.startswith("orchestration.sandbox"):
            assert all(it.startswith("orchestration.sandbox") for it in imports(module)), name


def test_every_module_says_what_it_is_for() -> None:
    for module in modules().values():
        assert ast.get_docstring(module.tree), module.place
