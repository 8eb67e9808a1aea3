"""A scope as logs and third parties may know it: without a word that may be somebody's name.

A path of "POST /users/mustermann/profile" has two words of an API and one name, which nobody can
tell apart. So a route is shown where it is a call of an operation that a kind knows, by the
operation's own template, and as its method alone elsewhere. `headgate status` shows it as it is.
"""

from __future__ import annotations

from functools import cache
from http import HTTPMethod
from typing import TYPE_CHECKING, Final

from orchestration.kinds import all_kinds
from workers.governor.flows import route_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.kind import Operation

#: How the bucket of a route begins whose flow is gone.
_BUCKET: Final = "r:"


def public_scope(scope: str) -> str:
    """The scope with nothing but names of the configuration and words of known operations.

    Args:
        scope: "client", the name of a limit, or a route.
    """
    if scope.startswith(_BUCKET):
        return "*"
    method, space, path = scope.partition(" ")
    if not space:
        return scope
    operations = _operations()
    if scope in operations:
        return scope
    for route, operation in operations.items():
        if operation.is_call(method, path):
            return route
    return f"{method if method in HTTPMethod.__members__ else '*'} *"


@cache
def _operations() -> Mapping[str, Operation]:
    """The operations of all kinds by their routes."""
    steps = [kind.steps for kind in all_kinds().values()]
    known = [operation for step in steps for operation in step.operations.values()]
    return {route_class(operation.route): operation for operation in known}
