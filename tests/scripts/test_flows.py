"""Which limits a flow is charged to, also when the configuration changes, and what pauses it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.governor.flows import MOST_ROUTES, coarse, flow, read, route_class
from workers.settings.client import ClientSettings, TenantSettings
from workers.settings.limits import LimitSettings

APP = LimitSettings(name="app", count=200)
ORDERS = LimitSettings(name="orders", count=2, match="POST /orders*")


def a_client(*limits: LimitSettings, **tenants: TenantSettings) -> ClientSettings:
    return ClientSettings(name="acme", base_url="http://provider", limits=limits, tenants=tenants)


def read_hot(definition: str) -> Any:
    """What the scripts read of a definition."""
    return json.loads(definition.partition("\n")[0])


def defined(client: ClientSettings, definition: str) -> Any:
    return read_hot(read(definition).definition(client))


def charged(client: ClientSettings, route: str, tenant: str = "-") -> list[str]:
    it = read_hot(flow(client, 1, tenant, route).definition(client))
    return [name for name, *_ in it["limits"] if not name.startswith("r:")]


@pytest.mark.parametrize("route", ["POST /orders", "POST /orders?i=1", "POST /orders?a=/b"])
def test_a_query_is_no_way_around_a_limit(route: str) -> None:
    assert charged(a_client(APP, ORDERS), route) == ["client", "app", "orders"]


def test_work_that_waits_follows_a_limit_that_is_renamed_or_came_later() -> None:
    old = a_client(APP, ORDERS)
    waiting = flow(old, 1, "-", "POST /orders").definition(old)
    renamed = ORDERS.model_copy(update={"name": "slow"})
    later = LimitSettings(name="day", count=9, window_s=86400, shape="fixed_window")

    it = defined(a_client(APP, renamed, later), waiting)

    assert [name for name, *_ in it["limits"]] == ["client", "app", "slow", "day"]


def test_a_tenant_is_charged_to_its_own_limits_too_and_nobody_else_is() -> None:
    cap = LimitSettings(name="cap", count=5)
    client = a_client(APP, emea=TenantSettings(limits=(cap,)))

    assert charged(client, "POST /x", "emea") == ["client", "app", "emea/cap"]
    assert charged(client, "POST /x", "apac") == ["client", "app"]


def test_a_refusal_pauses_the_narrowest_limit_else_the_route_else_the_client() -> None:
    def scope(client: ClientSettings, route: str) -> str:
        return str(read_hot(flow(client, 1, "-", route).definition(client))["scope"])

    assert scope(a_client(APP, ORDERS), "POST /orders") == "orders"
    assert scope(a_client(APP, ORDERS), "GET /x").startswith("r:")
    assert scope(a_client(APP), "GET /x/7") == scope(a_client(APP), "GET /x/8")
    assert scope(a_client(APP), "GET /x") != scope(a_client(APP), "POST /x")
    assert scope(a_client(), "GET /x") == "client"


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("POST /api/v2/outbound/contactlists/3f0c-11/contacts?a=b",
         "POST /api/v2/outbound/contactlists/*/contacts"),
        ("GET /users/+15550100", "GET /users/*"),
        ("PUT /things/{make.id}/start", "PUT /things/*/start"),
        ("DELETE /", "DELETE /"),
    ],
)  # fmt: skip
def test_a_route_is_kept_without_query_ids_and_numbers(route: str, words: str) -> None:
    assert route_class(route) == words


def test_a_client_has_no_more_routes_than_its_governor_can_look_through() -> None:
    client, routes = a_client(APP), set[str]()
    word = "abcdefghij"
    paths = [f"POST /{a}{b}" for a in word for b in word]

    kept = [coarse(flow(client, 1, "-", path), routes).route for path in paths]

    assert kept[:MOST_ROUTES] == paths[:MOST_ROUTES]
    assert set(kept[MOST_ROUTES:]) == {"POST *"}
