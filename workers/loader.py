"""How Celery imports the modules that our application names.

Celery looks for modules in the current folder first. A user's `tasks.py` there must not be taken
for our package `tasks`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from celery.loaders.app import AppLoader
from click import ClickException

from workers.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

#: Our packages above this one, each of which imports the ones before it.
_OURS: Final = ("tasks", "orchestration")
#: The folder in which our three packages stand side by side.
_ROOT: Final = Path(__file__).resolve().parents[1]


class PackageHidden(UsageError, ClickException):
    """Python would import a module of the user's in place of one of our packages.

    It is an exception of click too, so that Celery's own command ends with its sentence and its
    exit code, and without a traceback.
    """


class CeleryRefused(ConfigError, ClickException):
    """The configuration is wrong, so there is no application; for Celery's command as above."""


class PackageLoader(AppLoader):  # type: ignore[misc]  # Celery ships no types
    """Imports what our application names from where we are installed."""

    def import_task_module(self, module: str) -> ModuleType:
        """Import one of our modules, or a user's (`--include`) as Celery does.

        Raises:
            PackageHidden: a module of the user's hides our package.
        """
        if module not in self.app.conf.imports:
            imported: ModuleType = super().import_task_module(module)
            return imported
        for package in _OURS:
            require_own(package)
        self.task_modules.add(module)
        return import_module(module)


def require_own(package: str) -> None:
    """Make sure that Python finds our package under this name.

    Raises:
        PackageHidden: it finds another one first, in the current folder for example.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return  # the import will say what is missing
    if Path(spec.origin).resolve() != _ROOT / package / "__init__.py":
        raise PackageHidden(
            f"{spec.origin} hides the package {package!r} of Headgate; run the command from "
            f"another folder, or rename the file"
        )
