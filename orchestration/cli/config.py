"""`headgate config check`: the configuration against the world."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from orchestration.cli import discover, options
from orchestration.cli.limit_table import describe_limits, format_limit
from workers.auth.credentials import StaticSecret
from workers.auth.token_endpoint import NoToken, TokenEndpoint
from workers.errors import ConfigError, HeadgateError, TokenUnavailable
from workers.http.connection import Caller
from workers.settings.load import config_path
from workers.store.connection import open_store, require_durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.settings.client import ClientSettings
    from workers.settings.load import StoreSettings

#: The exit codes: something cannot be reached, or a person must change the configuration.
_AWAY: Final = 1
_WRONG: Final = 2

#: An exit code and a sentence.
Problem = tuple[int, str]


@dataclass
class Findings:
    """What is known of one thing: facts, and problems with their exit codes."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


@click.group()
def command() -> None:
    """Look at the configuration."""


command.add_command(discover.command)


@command.command("check")
@options.as_json
@options.configured
def check_configuration(*, as_json: bool) -> None:
    """Check the configuration: its values, the store, and each client's provider and secret.

    For each limit, a tenant's own included, it says what the governor makes of it: the rate, the
    burst, the part of the burst that is kept for urgent calls, and how many calls can arrive at the
    provider in any window at the worst. Where a client has a token endpoint, the command asks for
    one access token and does not keep it. It makes no other call.

    \b
    Example:  headgate config check --config acme.toml
    Exit:     0 all is well, 1 store or provider cannot be reached, 2 wrong configuration
    """
    settings = options.settings()
    path = config_path(options.config_file())
    of_store = _check_store(settings.store)
    of_clients = {name: _check_client(client) for name, client in settings.clients.items()}
    all_findings = (of_store, *of_clients.values())
    problems = [problem for findings in all_findings for problem in findings.problems]
    if as_json:
        answer = {
            "configuration": str(path) if path else None,
            "store": of_store.facts,
            "clients": {name: findings.facts for name, findings in of_clients.items()},
            "problems": [text for _, text in problems],
        }
        click.echo(json.dumps(answer))
    else:
        click.echo(f"{'configuration':16}  {path or 'none, the defaults hold'}")
        _show("store", of_store)
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


def _format_facts(facts: dict[str, Any]) -> Iterator[str]:
    """Facts for people: {"secret_present": False} is "secret not present"."""
    for fact, value in facts.items():
        thing, _, state = fact.rpartition("_")
        if not isinstance(value, bool):
            yield f"{fact} {value}"
        elif thing:
            yield f"{thing} {'' if value else 'not '}{state}"
        elif value:
            yield state


def _check_store(settings: StoreSettings) -> Findings:
    findings = Findings()
    try:
        store = open_store(settings)
        fsync = require_durable(store, settings)
        server = store.info("server")
    except ConfigError as error:
        findings.problems.append((_WRONG, str(error)))
    except HeadgateError as error:
        findings.problems.append((_AWAY, str(error)))
    else:
        kind = "valkey" if "valkey_version" in server else "redis"
        findings.facts = {
            "embedded": settings.url is None,
            "server": f"{kind} {server.get('valkey_version', server.get('redis_version'))}",
            "appendfsync": fsync,
        }
    return findings


def _check_client(client: ClientSettings) -> Findings:
    facts: dict[str, Any] = {
        "provider": client.provider,
        "auth": client.auth,
        "limits": describe_limits(client),
    }
    unreachable = _reach(client)
    facts["base_url_reachable"] = not unreachable
    problems = list(unreachable)
    if client.auth != "none":
        url = client.token_url or ""
        # A host that cannot be reached is reported once.
        is_other_host = _host_of(url) != _host_of(client.base_url)
        problems += _check_secrets(client, url if not unreachable or is_other_host else "", facts)
    return Findings(facts, problems)


def _reach(client: ClientSettings) -> list[Problem]:
    try:
        with Caller(client, pool_size=1).connection():
            return []
    except ConfigError as error:
        return [(_WRONG, str(error))]
    except HeadgateError as error:
        return [(_AWAY, str(error))]


def _host_of(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


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
