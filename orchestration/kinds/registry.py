"""The list of all kinds, and their tasks.

The list is made at its first use, not at import: a package that brings a kind imports this one.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.kind import Kind
from tasks.steps.call import step_of
from tasks.steps.local import local_step_of
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.metadata import EntryPoint

    from celery import Celery

#: Group of the entry points by which other packages add kinds.
GROUP: Final = "headgate.kinds"
#: What every kind must say.
_NEEDED: Final = ("name", "command", "steps", "options", "platform")


@cache
def all_kinds() -> Mapping[str, Kind[Any]]:
    """Every kind of job by its name.

    Raises:
        ConfigError: a package adds something that is no whole kind, cannot be imported, has the
            name or a task of another kind, or shares its command with other help or options.
    """
    # Late: the readers import what imports this module.
    from orchestration.kinds import genesys, rest

    built_in: tuple[Kind[Any], ...] = (*rest.REST_KINDS, *genesys.GENESYS_KINDS)
    kinds = {kind.name: kind for kind in built_in}
    for entry in entry_points(group=GROUP):
        kind = _load(entry)
        tasks = {task for known in kinds.values() for task in _tasks_of(known)}
        if kind.name in kinds or not tasks.isdisjoint(_tasks_of(kind)):
            raise ConfigError(
                f"kind {kind.name!r} of {_package_of(entry)} has the name, or a task, of another "
                f"kind; rename it, or uninstall that package"
            )
        if any(_differ_in_command(kind, known) for known in kinds.values()):
            raise ConfigError(
                f"kind {kind.name!r} of {_package_of(entry)} shares the command "
                f"{kind.command.name!r} with a kind that has other help or options; rename its "
                f"command, or uninstall that package"
            )
        kinds[kind.name] = kind
    return kinds


def _differ_in_command(kind: Kind[Any], other: Kind[Any]) -> bool:
    """Whether one command would have to be two: kinds that share one share its help and options."""
    same = (kind.command, kind.options) == (other.command, other.options)
    return kind.command.name == other.command.name and not same


def find_kind(name: str) -> Kind[Any]:
    """The kind of this name.

    Raises:
        ConfigError: there is none here, or as `all_kinds`.
    """
    kinds = all_kinds()
    if name not in kinds:
        raise ConfigError(
            f"kind {name!r} is not known here (known: {', '.join(sorted(kinds))}); install the "
            f"package that brings it"
        )
    return kinds[name]


def register(app: Celery) -> None:
    """Give the application the Celery tasks of every kind; raises as `all_kinds`."""
    for kind in all_kinds().values():
        app.register_task(step_of(kind.steps, kind.name, kind.platform))
        if kind.steps.local_task:
            app.register_task(local_step_of(kind.steps, kind.name, kind.platform))


def _load(entry: EntryPoint) -> Kind[Any]:
    try:
        kind = entry.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- another package may raise anything
        raise ConfigError(
            f"kind {entry.name!r} of {_package_of(entry)} cannot be loaded "
            f"({type(error).__name__}: {error}); correct or uninstall that package"
        ) from None
    if not isinstance(kind, Kind):
        raise ConfigError(
            f"entry point {entry.name!r} of {_package_of(entry)} names no Kind object; let it name "
            f"one, or uninstall that package"
        )
    if missing := [name for name in _NEEDED if not hasattr(kind, name)]:
        raise ConfigError(
            f"kind {entry.name!r} of {_package_of(entry)} does not say its {', '.join(missing)}; "
            f"complete or uninstall that package"
        )
    return kind


def _package_of(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist else "a package"


def _tasks_of(kind: Kind[Any]) -> Iterator[str]:
    yield from filter(None, (kind.steps.task, kind.steps.local_task))
