"""The product as text: its modules, what each imports, the names that it binds, its Lua files."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
#: The top folders, the lowest first.
TOPS: Final = ("workers", "tasks", "orchestration")


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file of the product."""

    name: str  #: dotted; of a package, that of its face
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_face(self) -> bool:
        """Whether the file is the `__init__.py` of a package."""
        return self.path.name == "__init__.py"

    @property
    def place(self) -> str:
        """Its path from the root, for messages."""
        return str(self.path.relative_to(ROOT))

    @property
    def package(self) -> str:
        """The package in which it stands; of a face, the package itself."""
        return self.name if self.is_face else self.name.rpartition(".")[0]


@cache
def modules() -> dict[str, Module]:
    """Every Python file of the product by its dotted name."""
    found = {}
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text("utf-8")
            found[name] = Module(name, path, text, ast.parse(text))
    return found


def imports(module: Module) -> set[str]:
    """The modules of the product that a module imports anywhere, for type checking too.

    `from package import name` counts as an import of the module `name` where there is one, and as
    one of the package's face elsewhere.
    """
    known = modules()
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                names.add(member if member in known else node.module)
    return names - {module.name}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The sets of nodes that reach each other, each sorted; the strongly connected components."""
    reached: dict[str, set[str]] = {}
    for start, first in arrows.items():
        seen: set[str] = set()
        ahead = list(first)
        while ahead:
            node = ahead.pop()
            if node not in seen:
                seen.add(node)
                ahead += arrows.get(node, ())
        reached[start] = seen
    groups = {
        tuple(sorted(other for other in seen if start in reached.get(other, ())))
        for start, seen in reached.items()
        if start in seen
    }
    return [list(group) for group in sorted(groups)]


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each name that the code binds, with its line: variables, parameters, fields, definitions."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case ast.alias(asname=str() as name):
                yield name, node.lineno
            case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
                yield name, node.lineno
            case _:
                pass


def lua_files() -> list[Path]:
    """Every Lua file of the product."""
    return sorted((ROOT / "workers/lua").rglob("*.lua"))


def lua_code(text: str) -> str:
    """Lua without comments and texts; lines stay where they are."""
    without = re.sub(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'', '""', text)
    return re.sub(r"--[^\n]*", "", without)


def lua_names(text: str) -> Iterator[tuple[str, int]]:
    """Each identifier that Lua code binds, with its line: locals, parameters, loop variables."""
    code = lua_code(text)
    patterns = (
        r"\blocal\s+(?!function\b)([\w, \n]+?)(?=\s*=|\s*\n|;|$)",
        r"\bfunction\b\s*[\w.:]*\s*\(([^)]*)\)",
        r"\bfor\s+([\w, ]+?)\s+in\b",
        r"\bfor\s+(\w+)\s*=",
        r"\blocal\s+function\s+(\w+)",
    )
    for pattern in patterns:
        for match in re.finditer(pattern, code):
            line = code.count("\n", 0, match.start()) + 1
            for name in re.findall(r"[A-Za-z_]\w*", match[1]):
                yield name, line
