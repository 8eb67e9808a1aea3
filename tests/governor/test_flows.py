"""Which limits a flow is charged to, also after the configuration has changed."""

from __future__ import annotations

import json

import pytest

from workers.flows import definition, flow_name
from workers.settings import ClientSettings, LimitSettings

APP = LimitSettings(name="app", count=200)
ORDERS = LimitSettings(name="orders", count=2, match="POST /orders")


def a_client(*limits: LimitSettings) -> ClientSettings:
    return ClientSettings(name="acme", base_url="http://provider", limits=limits)


def charged(client: ClientSettings, flow: str) -> list[str]:
    return [name for name, *_ in json.loads(definition(client, flow))["limits"]]


@pytest.mark.parametrize("route", ["POST /orders", "POST /orders?i=1", "POST /orders?a=/b"])
def test_a_query_is_no_way_around_a_limit(route: str) -> None:
    client = a_client(APP, ORDERS)

    assert charged(client, flow_name(client, 1, "-", route)) == ["client", "app", "orders"]


def test_work_that_waits_while_its_limit_is_renamed_is_charged_to_all_limits() -> None:
    flow = flow_name(a_client(APP, ORDERS), 1, "-", "POST /orders")
    renamed = ORDERS.model_copy(update={"name": "slow"})

    assert charged(a_client(APP, renamed), flow) == ["client", "app", "slow"]


def test_a_limit_for_every_call_that_came_later_counts_for_what_waits_already() -> None:
    flow = flow_name(a_client(ORDERS), 1, "-", "POST /other")

    assert charged(a_client(ORDERS), flow) == ["client"]
    assert charged(a_client(APP, ORDERS), flow) == ["client", "app"]
