"""The schema number: stored once, and another one is refused in a sentence."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from celery import Celery
from pydantic import SecretStr

from tasks.rest.calls import CallSteps
from tasks.steps.call import step_of
from tests.support.stored import a_job
from workers.clients import Clients
from workers.errors import ConfigError, LedgerDamaged, SchemaUnknown
from workers.ledger.identity import SCHEMA, installation_secret, read_secret
from workers.ledger.ledger import Ledger, PageCounts
from workers.settings.load import Settings, StoreSettings
from workers.store.keys import ClientKeys, installation

if TYPE_CHECKING:
    from workers.store.connection import Store

ROOT = Path(__file__).parents[2]


def test_an_installation_is_made_once_and_names_its_schema(store: Store) -> None:
    namespace = uuid4().hex

    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: installation_secret(store, namespace), range(8)))

    assert made == {read_secret(store, namespace)}
    assert store.hget(installation(namespace), "schema") == str(SCHEMA)


def test_a_look_makes_no_installation(store: Store) -> None:
    namespace = uuid4().hex

    assert read_secret(store, namespace) == b""

    assert not store.exists(installation(namespace))


def test_data_of_another_schema_is_refused_and_left_as_it_is(store: Store, store_url: str) -> None:
    namespace = uuid4().hex
    record = {"schema": "2", "of_a_later_release": "x"}
    store.hset(installation(namespace), mapping=record)
    address = StoreSettings(url=SecretStr(store_url), namespace=namespace)
    acme = {"base_url": "http://provider"}
    clients = Clients(Settings(store=address, clients={"acme": acme}))

    for read in (
        lambda: installation_secret(store, namespace),
        lambda: read_secret(store, namespace),
        lambda: clients["acme"],
    ):
        with pytest.raises(ConfigError, match=f"schema 2 .*, and this .* reads schema {SCHEMA}"):
            read()

    assert store.hgetall(installation(namespace)) == record


def test_a_job_of_another_schema_is_not_opened_and_says_so(store: Store) -> None:
    keys = ClientKeys(uuid4().hex, "acme")
    ledger = Ledger(store, keys)
    ledger.begin(a_job("j1", low=1))
    ledger.accept("j1", 0, [{}], PageCounts(calls=1))
    store.hset(keys.job("j1"), "schema", 2)

    with pytest.raises(LedgerDamaged, match=f"job j1 is stored in schema 2, .* reads {SCHEMA}"):
        ledger.open("j1", 0, {}, [], [])

    assert store.hget(keys.job("j1"), "next_page") == "0"


def test_a_job_of_another_schema_is_not_read_and_says_so(store: Store) -> None:
    keys = ClientKeys(uuid4().hex, "acme")
    ledger = Ledger(store, keys)
    ledger.begin(a_job("j1", low=1))
    store.hset(keys.job("j1"), "schema", 2)

    for read in (
        lambda: ledger.job("j1"),
        lambda: ledger.jobs(["j1"]),
        lambda: ledger.job_params("j1"),
    ):
        with pytest.raises(SchemaUnknown, match=f"j1 is stored in schema 2, .* reads {SCHEMA}"):
            read()


def test_an_installation_without_its_secret_is_refused_in_a_sentence(store: Store) -> None:
    namespace = uuid4().hex
    store.hset(installation(namespace), mapping={"schema": SCHEMA})

    with pytest.raises(ConfigError, match="has lost its secret, from which all keys derive"):
        installation_secret(store, namespace)


def test_a_bell_of_another_schema_is_left_to_be_rung_again() -> None:
    with Celery("test", broker="memory://", set_as_current=False) as app:
        step = app.register_task(step_of(CallSteps(), "calls"))
        step.push_request(schema=2)
        try:
            word = step.run("acme", "key", 1)
        finally:
            step.pop_request()

    assert word == f"wait: this bell has schema 2, this release reads {SCHEMA}"


def test_lua_and_python_name_the_same_schema() -> None:
    prelude = (ROOT / "workers/lua/prelude.lua").read_text("utf-8")
    assert re.findall(r"^local SCHEMA = (\d+)$", prelude, re.MULTILINE) == [str(SCHEMA)]
