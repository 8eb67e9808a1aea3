"""`headgate config check`: the configuration against the world."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from orchestration.cli import discover, options
from workers.auth.credentials import StaticSecret
from workers.auth.token_endpoint import NoToken, TokenEndpoint
from workers.errors import ConfigError, HeadgateError, TokenUnavailable
from workers.http.connection import Caller
from workers.settings.limits import bucket, tenant_bucket, worst_case
from workers.settings.load import config_path
from workers.store.connection import open_store, require_durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.clients import Clients
    from workers.settings.client import ClientSettings
    from workers.settings.limits import LimitSettings
    from workers.settings.load import StoreSettings

#: The exit codes: something is away, or a person must change the configuration.
AWAY, WRONG = 1, 2


@dataclass
class Findings:
    """What was found of one thing: facts, and problems with their exit codes."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)


@click.group()
def command() -> None:
    """Look at the configuration."""


command.add_command(discover.command)


@command.command()
@options.as_json
@options.configured
def check(as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Check the configuration: its values, the store, and each client's provider and secret.

    For each limit, a tenant's own included, it says what the governor makes of it: rate, burst,
    the part of it that is kept for urgent calls, and how many calls can arrive at the provider in
    any window at the worst. Where the client's form has a token endpoint, one access token is
    asked for and not kept; no call is made.

    \b
    Example:  headgate config check --config acme.toml
    Exit:     0 all is well, 1 store or provider cannot be reached, 2 wrong configuration
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    path = config_path()
    found = {"store": _store(clients.settings.store)}
    for name in clients.names():
        found[f"client {name}"] = _client(clients, name)
    problems = [it for findings in found.values() for it in findings.problems]
    if as_json:
        answer = {
            "configuration": str(path) if path else None,
            "store": found["store"].facts,
            "clients": {name: found[f"client {name}"].facts for name in clients.names()},
            "problems": [text for _, text in problems],
        }
        click.echo(json.dumps(answer))
    else:
        click.echo(f"{'configuration':16}  {path or 'none, the defaults hold'}")
        for name, findings in found.items():
            _show(name, findings)
        if not clients.names():
            click.echo("there are no clients; add one as [clients.NAME]")
    raise SystemExit(max((code for code, _ in problems), default=0))


def _show(name: str, findings: Findings) -> None:
    facts = dict(findings.facts)
    limits = facts.pop("limits", [])
    click.echo(f"{click.style(f'{name:16}', bold=True)}  {', '.join(_words(facts))}".rstrip())
    for it in limits:
        for line in limit_lines(it):
            click.echo(f"  {line}")
    for _, text in findings.problems:
        click.echo(f"  {click.style('problem', fg='red'):14}  {text}")


def limit_lines(it: dict[str, Any]) -> list[str]:
    """One limit of `limits_of` for people: what the provider says, and what follows from it."""
    count, name = f"{it['count']:,}", f"limit {it['name']:10}"
    if it["shape"] == "concurrent":
        return [f"{name}  {count} at once, {it['match']}"]
    window = f"{it['window_s']:g} s"
    reserve = f", {it['reserve']} of it for urgent" if it["reserve"] else ""
    lead = f", bells ring {it['lead_s'] * 1000:.0f} ms ahead" if it["lead_s"] else ""
    said = f"{count} per {window}, {it['shape']}, {it['calibration']}, {it['match']}"
    follows = f"{it['rate_per_s']:.5g} calls/s, burst {it['burst']:,}{reserve}{lead}"
    lines = [
        f"{name}  {said}",
        f"{'':18}{follows}; at most {it['worst_case']:,} in any {window}",
    ]
    if it["worst_case"] > it["count"]:
        note = "a bucket's burst comes on top of its rate; does the provider count windows?"
        lines.append(f"{'':18}{note}")
    return lines


def _words(facts: dict[str, Any]) -> Iterator[str]:
    for fact, value in facts.items():
        thing, _, state = fact.rpartition("_")
        if not isinstance(value, bool):
            yield f"{fact} {value}"
        elif thing:
            yield f"{thing} {'' if value else 'not '}{state}"
        elif value:
            yield state


def _store(settings: StoreSettings) -> Findings:
    findings = Findings()
    try:
        store = open_store(settings)
        fsync = require_durable(store, settings)
        server = store.info("server")
    except ConfigError as error:
        findings.problems.append((WRONG, str(error)))
    except HeadgateError as error:
        findings.problems.append((AWAY, str(error)))
    else:
        kind = "valkey" if "valkey_version" in server else "redis"
        findings.facts = {
            "embedded": settings.url is None,
            "server": f"{kind} {server.get('valkey_version', server.get('redis_version'))}",
            "appendfsync": fsync,
        }
    return findings


def _client(clients: Clients, name: str) -> Findings:
    client = clients.settings.clients[name]
    facts: dict[str, Any] = {
        "provider": client.provider,
        "auth": client.auth,
        "limits": limits_of(client),
    }
    unreachable = _reach(client)
    facts["base_url_reachable"] = not unreachable
    problems = list(unreachable)
    # Who is down is said once.
    url = client.token_url or ""
    ask = not unreachable or _place(url) != _place(client.base_url)
    if client.auth != "none":
        problems += _secrets(client, url if ask else "", facts)
    return Findings(facts, problems)


def _reach(client: ClientSettings) -> list[tuple[int, str]]:
    try:
        with Caller(client, pool_size=1, on_quota=False).connection():
            return []
    except ConfigError as error:
        return [(WRONG, str(error))]
    except HeadgateError as error:
        return [(AWAY, str(error))]


def _place(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def limits_of(client: ClientSettings) -> list[dict[str, Any]]:
    """Each limit of the client and of its tenants, and what the governor makes of it.

    `rate_per_s` and `window_s` are None for a limit of calls at once; times are seconds.
    """
    own = [(tenant, it) for tenant, one in client.tenants.items() for it in one.limits]
    return [_facts(None, it) for it in client.limits] + [_facts(tenant, it) for tenant, it in own]


def _facts(tenant: str | None, limit: LimitSettings) -> dict[str, Any]:
    it = tenant_bucket(tenant, limit) if tenant else bucket(limit)
    return {
        "name": it.name,
        "tenant": tenant,
        "count": limit.count,
        "window_s": None if it.rate is None else limit.window_s,
        "shape": limit.shape,
        "match": limit.match,
        "calibration": limit.calibration,
        "rate_per_s": None if it.rate is None else round(it.rate, 6),
        "burst": it.burst,
        "reserve": it.reserve,
        "lead_s": it.lead_us / 1e6,
        "spread_s": it.spread_us / 1e6,
        "worst_case": worst_case(limit),
    }


def _secrets(client: ClientSettings, url: str, facts: dict[str, Any]) -> list[tuple[int, str]]:
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
        return [(WRONG, str(error))]
    except NoToken as error:
        return [(WRONG if error.refused else AWAY, str(error))]
    return []
