"""The containers keep to the rules of SECURITY.md; each is broken once."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import ROOT
from workers.store.releases import LEAST_SAFE, least_safe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

yaml = pytest.importorskip("yaml")  # of the extra dev

COMPOSE = yaml.safe_load((ROOT / "compose/compose.yaml").read_text())
SANDBOX = yaml.safe_load((ROOT / "compose/sandbox.yaml").read_text())
CONFIG = tomllib.loads((ROOT / "compose/headgate.toml").read_text())
DOCKERFILE = (ROOT / "compose/Dockerfile").read_text()
#: What the ledger's server and the broker are started with.
BOUNDED = ("--maxmemory-policy noeviction", "--aclfile", "--maxmemory ")
SERVERS = {
    "redis": ("store", ("--appendonly yes", "--appendfsync always", *BOUNDED)),
    "broker": ("broker", BOUNDED),
}
#: Services that work with the ledger, and the only one that may load functions.
OF_THE_LEDGER = {"worker", "media", "submit", "demo"}
#: A release, as in redis:8.2.10 and python:3.13.5-slim; ours is built here.
PINNED = re.compile(r"[\w/]+:\d+\.\d+\.\d+(-\w+)?|headgate:local")


#: What is wrong with a service, and when.
RULES: dict[str, Callable[[dict[str, Any]], object]] = {
    "runs as root": lambda it: str(it.get("user", "root")).split(":")[0] in {"root", "0"},
    "can write to its root": lambda it: not it.get("read_only"),
    "keeps capabilities": lambda it: it.get("cap_drop") != ["ALL"],
    "may gain privileges": lambda it: "no-new-privileges:true" not in it.get("security_opt", []),
    "is not kept apart": lambda it: {"privileged", "network_mode", "cap_add", "pid"} & set(it),
    "has no bound of processes": lambda it: "pids_limit" not in it,
    "has no bound of memory": lambda it: "mem_limit" not in it,
    "has no bound of processor time": lambda it: not 0 < it.get("cpus", 0) <= 1,
    "has a log without bound": lambda it: (
        set(it.get("logging", {}).get("options", {})) < {"max-size", "max-file"}
    ),
    "has an image of any release": lambda it: not PINNED.fullmatch(it.get("image", "")),
    # What ends by itself tells by its exit code.
    "has no health check": lambda it: (
        it.get("restart") != "no" and not it.get("healthcheck", {}).get("test")
    ),
    "is published beyond this machine": lambda it: [
        port for port in it.get("ports", []) if not str(port).startswith("127.0.0.1:")
    ],
    "has a password in its definition": lambda it: re.search(
        r"(?i)(pass|secret|token)\w*(?<!_url)['\"]?\s*[:=]\s*['\"]?[^/\s'\"]|://[^/\s@]*:[^/\s@]+@",
        f"{it.get('command')} {it.get('environment')}",
    ),
}


def breaches(compose: dict[str, Any]) -> list[str]:
    """What is wrong, a sentence each."""
    services = compose["services"]
    found = [f"{name} {rule}" for name, it in services.items() for rule in RULES if RULES[rule](it)]
    found += breaches_of_servers(compose)
    for name, secret in compose["secrets"].items():
        if set(secret) != {"file"} or not secret["file"].startswith("secrets/"):
            found.append(f"{name} is no file of secrets/")
    for name, service in services.items():
        found += breaches_of_rights(name, service)
        if name in {"worker", "media", "submit"} and service["depends_on"].get("admin") != LOADED:
            found.append(f"{name} starts before the functions are loaded")
    return found


def breaches_of_servers(compose: dict[str, Any]) -> list[str]:
    """How the ledger's server or the broker is open, or without a bound."""
    found = []
    for name, (network, options) in SERVERS.items():
        server = compose["services"][name]
        if server.get("ports"):
            found.append(f"{name} is published")
        if server["networks"] != [network] or not compose["networks"][network].get("internal"):
            found.append(f"{name} can be reached, or reaches out")
        found += [f"{name} runs without {it}" for it in options if it not in server["command"]]
    return found


def breaches_of_rights(name: str, service: dict[str, Any]) -> list[str]:
    """Which server a service can reach without being a user of it, and the other way round."""
    found, secrets = [], set(service.get("secrets", []))
    of_broker = {it for it in secrets if it.endswith("broker_password")}
    if ("store_password" in secrets) != (name in OF_THE_LEDGER | {"redis"}):
        found.append(f"{name} is not the ledger's user, or the only one who is not")
    if "admin_password" in secrets and name != "admin":
        found.append(f"{name} may load functions")
    if "store" in service["networks"] and not secrets & {"store_password", "admin_password"}:
        found.append(f"{name} can reach the ledger, and is no user of it")
    if bool(of_broker) != ("broker" in service["networks"]):
        found.append(f"{name} can reach the broker and is no user of it, or is one and cannot")
    return found


LOADED = {"condition": "service_completed_successfully"}


def whole() -> dict[str, Any]:
    """Both files, as `docker compose -f compose.yaml -f sandbox.yaml` puts them together."""
    both = copy.deepcopy(COMPOSE)
    for name, more in SANDBOX["services"].items():
        service = both["services"].setdefault(name, {})
        for key, value in more.items():
            if isinstance(value, list) and isinstance(service.get(key), list):
                service[key] = service[key] + value
            elif isinstance(value, dict) and isinstance(service.get(key), dict):
                service[key] = service[key] | value
            else:
                service[key] = value
    both["secrets"] |= SANDBOX["secrets"]
    return both


def test_the_compose_files_keep_every_rule() -> None:
    assert breaches(COMPOSE) == []
    assert breaches(whole()) == []
    assert set(COMPOSE["services"]) == {
        "redis", "broker", "admin", "worker", "media", "flower", "submit",
    }  # fmt: skip
    assert set(SANDBOX["services"]) - set(COMPOSE["services"]) == {"sandbox", "demo"}


def test_the_servers_are_of_a_release_that_is_not_known_to_be_unsafe() -> None:
    images = {COMPOSE["services"][name]["image"] for name in SERVERS}

    assert [least_safe(*image.split(":")) for image in images] == [None]
    assert {image.split(":")[0] for image in images} <= set(LEAST_SAFE)
    assert least_safe("redis", "8.0.2")  # what it was


def test_flower_has_neither_the_ledger_nor_a_secret_of_a_provider() -> None:
    for compose in (COMPOSE, whole()):
        flower = compose["services"]["flower"]

        assert set(flower["secrets"]) == {"flower_broker_password", "flower_password"}
        assert not [name for name in flower["environment"] if "CLIENT" in name]
        assert "store" not in flower["networks"]


def test_nobody_hears_of_the_demo_without_its_file() -> None:
    assert "demo" not in str(COMPOSE)
    assert "clients" not in CONFIG


def test_what_is_run_by_itself_depends_on_nothing_that_is_scaled() -> None:
    for name in ("submit", "demo"):
        assert not {"worker", "media"} & set(whole()["services"][name]["depends_on"])


def test_workers_are_looked_at_by_what_they_do() -> None:
    for name in ("worker", "media"):
        service = COMPOSE["services"][name]
        _, *arguments = service["command"]

        assert service["healthcheck"]["test"][:3] == ["CMD", "headgate", "worker"]
        assert service["healthcheck"]["test"][3:] == [*arguments[:2], "--check"]


def test_what_is_submitted_from_outside_is_known_to_the_media_worker_by_the_same_path() -> None:
    of_files = [
        [volume for volume in COMPOSE["services"][name]["volumes"] if ":/files" in volume]
        for name in ("submit", "media")
    ]

    assert of_files[0] == of_files[1] == ["${FILES_DIR:-./files}:/files:ro"]
    assert COMPOSE["services"]["submit"]["working_dir"] == CONFIG["worker"]["media_root"]


def _set(service: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda compose: compose["services"][service].update(values)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_set("redis", ports=["127.0.0.1:6379:6379"]), "redis is published"),
        (_set("broker", ports=["127.0.0.1:6379:6379"]), "broker is published"),
        (_set("broker", networks=["store"]), "broker can be reached"),
        (_set("flower", networks=["store", "broker"]), "flower can reach the ledger"),
        (_set("flower", networks=["default"]), "is one and cannot"),
        (_set("submit", networks=["store", "broker"]), "submit can reach the broker"),
        (_set("worker", user="root"), "worker runs as root"),
        (_set("flower", user="0:0"), "flower runs as root"),
        (lambda it: it["services"]["redis"].pop("user"), "redis runs as root"),
        (_set("worker", environment={"STORE_PASSWORD": "guest"}), "worker has a password"),
        (_set("redis", command="redis-server --requirepass=x"), "redis has a password"),
        (_set("flower", environment={"X_TOKEN_URL": "http://a:b@c"}), "flower has a password"),
        (lambda it: it["services"]["worker"].pop("healthcheck"), "worker has no health check"),
        (_set("flower", ports=["5555:5555"]), "flower is published beyond"),
        (_set("worker", read_only=False), "worker can write"),
        (_set("redis", cap_drop=[]), "redis keeps capabilities"),
        (_set("worker", security_opt=[]), "worker may gain"),
        (_set("redis", command="redis-server --appendfsync everysec"), "without --appendfsync"),
        (_set("redis", networks=["store", "default"]), "redis can be reached"),
        (lambda it: it["secrets"].update(x={"environment": "X"}), "x is no file"),
        (_set("flower", secrets=["store_password"]), "flower is not the ledger's user"),
        (_set("worker", secrets=["store_password", "admin_password"]), "worker may load"),
        (_set("media", depends_on={}), "media starts before"),
        (lambda it: it["services"]["redis"].pop("mem_limit"), "redis has no bound of memory"),
        (lambda it: it["services"]["flower"].pop("cpus"), "flower has no bound of processor"),
        (lambda it: it["services"]["media"].pop("logging"), "media has a log without bound"),
        (_set("redis", image="redis:8"), "redis has an image of any release"),
    ],
)
def test_a_broken_rule_is_told(spoil: Callable[[dict[str, Any]], None], told: str) -> None:
    compose = copy.deepcopy(COMPOSE)

    spoil(compose)

    assert [it for it in breaches(compose) if told in it]


def test_calls_may_end_before_a_worker_is_killed() -> None:
    assert int(COMPOSE["services"]["worker"]["stop_grace_period"].rstrip("s")) > 60 + 5


def test_the_image_is_built_from_the_lock_and_runs_as_nobody_special() -> None:
    lines = DOCKERFILE.splitlines()

    assert [it for it in lines if it.startswith("FROM ")] == [
        "FROM python:3.13.5-slim AS build", "FROM python:3.13.5-slim",
    ]  # fmt: skip
    assert "--require-hashes" in DOCKERFILE
    assert [it for it in lines if it.startswith("USER ")] == ["USER 10001:10001"]
    assert not re.search(r"://|index-url|trusted-host|^# syntax", DOCKERFILE, re.MULTILINE)


def test_the_image_has_the_versions_that_are_tested() -> None:
    locks = [ROOT / name for name in ("requirements.lock", "compose/requirements.lock")]
    whole, image = (
        set(re.findall(r"^\S+==\S+|sha256:\w+", it.read_text(), re.MULTILINE)) for it in locks
    )

    assert image < whole
    assert not any(it.startswith(("pytest", "ruff", "mypy")) for it in image)


def test_secrets_are_made_once_and_differ(tmp_path: Path) -> None:
    for name in ("make-secrets.sh", "store_users", "broker_users"):
        (tmp_path / name).write_bytes((ROOT / "compose" / name).read_bytes())

    def make() -> dict[str, str]:
        command = ["/bin/sh", str(tmp_path / "make-secrets.sh")]
        subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
        return {it.name: it.read_text() for it in (tmp_path / "secrets").iterdir()}

    first, second = make(), make()

    assert first == second
    for_people = {"broker_admin_password"}  # no container has it
    assert set(first) == set(whole()["secrets"]) | for_people
    assert len(set(first.values())) == len(first)
    passwords = [name for name in first if name.endswith("_password")]
    assert len(passwords) == 6
    assert all(len(first[name]) == 48 for name in passwords)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    digests = {hashlib.sha256(first[name].encode()).hexdigest() for name in passwords}
    of_users = set[str]()
    for file, count in (("store_users", 2), ("broker_users", 3)):
        text = first[file]
        assert not [name for name in passwords if first[name] in text]  # a hash is enough
        assert "@" not in text.replace("@all", "")
        users = [line for line in text.splitlines() if " #" in line]
        assert len(users) == count
        of_users |= {line.partition(" #")[2][:64] for line in users}
    assert len(of_users & digests) == 5
    assert first["demo_secret"] in first["sandbox_config"]


def test_no_secret_is_part_of_the_project() -> None:
    assert "compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
