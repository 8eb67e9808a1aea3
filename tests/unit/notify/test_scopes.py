"""What logs and third parties know of a scope: no word that may be somebody's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestration.notify.conditions import Condition
from orchestration.views.scopes import public_scope
from tasks.genesys.operations import OPERATIONS
from tests.support.notices import MINUTE_US
from tests.unit.notify.test_watch import ROUTE, open_breaker
from workers.governor.flows import route_class

if TYPE_CHECKING:
    from tests.support.notices import Looks
    from tests.support.world import World


@pytest.mark.parametrize(
    ("route", "shown"),
    [
        ("POST /users/mustermann/profile", "POST *"),
        ("POST /api/v2/outbound/campaigns/mustermann", "POST *"),
        ("GET /api/v2/outbound/campaigns/mustermann", "GET /api/v2/outbound/campaigns/*"),
        ("POST /mustermann/api/v2/outbound/campaigns", "POST *"),
        ("MUSTERMANN /users", "* *"),
        ("POST *", "POST *"),
    ],
)
def test_a_route_is_shown_by_the_template_of_a_known_operation_or_as_its_method(
    route: str, shown: str
) -> None:
    assert public_scope(route_class(route)) == shown


def test_every_operation_of_a_kind_is_shown_by_its_template() -> None:
    for operation in OPERATIONS.values():
        assert public_scope(route_class(operation.route)) == route_class(operation.route)


@pytest.mark.parametrize("scope", ["client", "app", "emea/cap"])
def test_names_of_the_configuration_are_shown(scope: str) -> None:
    assert public_scope(scope) == scope


def test_the_hash_of_a_route_is_not_shown_nor_part_of_a_notices_id() -> None:
    assert public_scope("r:0123abcd") == "*"
    ids = {
        Condition.outage("acme", route_class(f"POST /users/{name}"), 1).notice(1).id
        for name in ("mustermann", "musterfrau")
    }
    assert len(ids) == 1


def test_of_two_routes_that_look_alike_to_third_parties_each_is_told(
    world: World, looks: Looks
) -> None:
    for route in (ROUTE, f"{ROUTE}-2"):
        open_breaker(world, route, "throttled", looks.now_us)
    looks.look()

    first, second = looks.deliver(10 * MINUTE_US)

    assert first.event == second.event == "hold.lasts"
    assert first.id != second.id
    assert looks.events(5 * MINUTE_US) == []
