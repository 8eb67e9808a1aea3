"""`headgate config check`: the configuration against the world."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from orchestration.cli import discover, options
from orchestration.cli.limit_table import describe_limits, format_limit
from orchestration.notify.delivery import open_delivery
from orchestration.views.links import (
    find_open_client_links,
    find_open_store_links,
    require_broker,
)
from workers.auth.credentials import StaticSecret
from workers.auth.token_endpoint import NoToken, TokenEndpoint
from workers.errors import ConfigError, HeadgateError, TokenUnavailable
from workers.http.route import Route
from workers.ledger.installation import Installation, where
from workers.settings.breaker import BreakerSettings
from workers.settings.place import find_file, name_whole
from workers.store.connection import open_store, require_durable, url_of
from workers.store.releases import server_of
from workers.store.tls import require_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.settings.client import ClientSettings
    from workers.settings.load import StoreSettings
    from workers.settings.notify import NotifySettings

#: The exit codes: something cannot be reached, or a person must change the configuration.
_AWAY: Final = 1
_WRONG: Final = 2

#: An exit code and a sentence.
Problem = tuple[int, str]


@dataclass
class Findings:
    """What is known of one thing: facts, problems with their exit codes, and warnings."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@click.group()
def command() -> None:
    """Look at the configuration."""


command.add_command(discover.command)


@command.command("check")
@options.as_json
@options.configured
def check_configuration(*, as_json: bool) -> None:
    """Check the configuration: its values, store and broker, and each client's provider and secret.

    For each limit, a tenant's own included, it says what the governor makes of it: the rate, the
    burst, the part of the burst that is kept for urgent calls, and how many calls can arrive at the
    provider in any window at the worst. Where a client has a token endpoint, the command asks for
    one access token and does not keep it. It makes no other call, and delivers no notice. It says
    what is wrong with a certificate, and warns of links beyond this machine on which others could
    read secrets.

    \b
    Example:  headgate config check --config acme.toml
    Exit:     0 all is well, 1 store or provider cannot be reached, or the store is not the
              remembered one, 2 wrong configuration
    """
    settings = options.settings()
    path = find_file(options.config_file())
    of_servers = _check_servers(settings.store)
    if settings.notify.is_on:
        of_servers["notify"] = _check_notify(settings.notify)
    of_clients = {name: _check_client(client) for name, client in settings.clients.items()}
    all_findings = (*of_servers.values(), *of_clients.values())
    problems = [problem for findings in all_findings for problem in findings.problems]
    if as_json:
        answer = {
            "configuration": str(name_whole(path)) if path else None,
            **{name: findings.facts for name, findings in of_servers.items()},
            "clients": {name: findings.facts for name, findings in of_clients.items()},
            "problems": [text for _, text in problems],
            "warnings": [text for findings in all_findings for text in findings.warnings],
        }
        click.echo(json.dumps(answer))
    else:
        file = name_whole(path) if path else "no file, the environment and the defaults hold"
        click.echo(f"{'configuration':16}  {file}")
        for name, findings in of_servers.items():
            _show(name, findings)
        for name, findings in of_clients.items():
            _show(f"client {name}", findings)
        if not of_clients:
            click.echo("there are no clients; add one as [clients.NAME]")
    raise SystemExit(max((code for code, _ in problems), default=0))


def _show(name: str, findings: Findings) -> None:
    facts = dict(findings.facts)
    limits = facts.pop("limits", [])
    words = ", ".join(_format_facts(facts))
    click.echo(f"{click.style(f'{name:16}', bold=True)}  {words}".rstrip())
    for limit in limits:
        for line in format_limit(limit):
            click.echo(f"  {line}")
    for _, text in findings.problems:
        click.echo(f"  {click.style('problem', fg='red'):14}  {text}")
    for text in findings.warnings:
        click.echo(f"  {click.style('warning', fg='yellow'):14}  {text}")


def _format_facts(facts: dict[str, Any]) -> Iterator[str]:
    """Facts for people: {"secret_present": False} is "secret not present"."""
    for fact, value in facts.items():
        thing, _, state = fact.rpartition("_")
        if fact == "place":
            yield value
        elif not isinstance(value, bool):
            yield f"{fact} {value}"
        elif thing:
            yield f"{thing} {'' if value else 'not '}{state}"
        elif value:
            yield state


def _check_servers(settings: StoreSettings) -> dict[str, Findings]:
    """Look at the store, and at the broker where that is a server of its own."""
    servers = {"store": _check_store(settings)}
    if settings.broker_url is not None:
        servers["broker"] = _check_broker(settings)
    for sentence in find_open_store_links(settings):
        name = "broker" if sentence.startswith("store.broker_url") else "store"
        servers[name].warnings.append(sentence)
    return servers


def _check_notify(settings: NotifySettings) -> Findings:
    """Look at the program, or connect to the URL; nothing is delivered."""
    findings = Findings({"place": settings.host or settings.argv[0]})
    try:
        open_delivery(settings).check()
    except ConfigError as error:
        findings.problems.append((_WRONG, str(error)))
    except HeadgateError as error:
        findings.problems.append((_AWAY, str(error)))
    return findings


def _check_broker(settings: StoreSettings) -> Findings:
    problems = []
    try:
        require_broker(settings)
    except ConfigError as error:
        problems.append((_WRONG, str(error)))
    except HeadgateError as error:
        problems.append((_AWAY, str(error)))
    return Findings({"reachable": not problems}, problems)


def _check_store(settings: StoreSettings) -> Findings:
    findings = Findings({"place": where(settings)})
    try:
        require_trusted(url_of(settings))
        store = open_store(settings)
        fsync = require_durable(store, settings)
        server = store.info("server")
        Installation(store, settings).check()
    except ConfigError as error:
        findings.problems.append((_WRONG, str(error)))
    except HeadgateError as error:
        findings.problems.append((_AWAY, str(error)))
    else:
        findings.facts |= {
            "embedded": settings.url is None,
            "server": " ".join(server_of(server)),
            "appendfsync": fsync,
        }
    return findings


def _check_client(client: ClientSettings) -> Findings:
    facts: dict[str, Any] = {
        "provider": client.provider,
        "auth": client.auth,
        "limits": describe_limits(client),
    }
    if client.breaker.rules != BreakerSettings().rules:
        facts["breaker"] = str(client.breaker)
    problems = _reach(client)
    facts["base_url_reachable"] = not problems
    if client.auth != "none":
        url, away = client.token_url or "", bool(problems)
        if url and _origin_of(url) != _origin_of(client.base_url):
            there = client.model_copy(update={"base_url": _origin_of(url)})
            not_there = _reach(there, ", where its access token comes from")
            problems, away = problems + not_there, bool(not_there)
        # A host that cannot be reached is reported once.
        problems += _check_secrets(client, "" if away else url, facts)
    return Findings(facts, problems, list(find_open_client_links(client)))


def _reach(client: ClientSettings, why: str = "") -> list[Problem]:
    """Open a connection, and wait whether the server takes its certificate, or the lack of one."""
    try:
        Route(client, pool_size=1).open(patient=True).close()
    except ConfigError as error:
        return [(_WRONG, str(error))]
    except HeadgateError as error:
        return [(_AWAY, f"{error}{why}")]
    return []


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _check_secrets(client: ClientSettings, url: str, facts: dict[str, Any]) -> list[Problem]:
    """Read the secret, and ask for a token at `url` unless it is ""; adds to the facts."""
    facts["secret_present"] = False
    if client.token_url:
        facts["token_obtained"] = False
    try:
        if client.token_url is None:
            StaticSecret(client).get()
        secrets = client.secrets()
        facts["secret_present"] = True
        if url and secrets:
            TokenEndpoint(client, url).ask(secrets)
            facts["token_obtained"] = True
    except (ConfigError, TokenUnavailable) as error:
        return [(_WRONG, str(error))]
    except NoToken as error:
        return [(_WRONG if error.refused else _AWAY, str(error))]
    return []
