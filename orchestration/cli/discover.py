"""`headgate config discover`: where a NICE CXone tenant is."""

from __future__ import annotations

import dataclasses
import json

import click

from orchestration.cli import options
from workers.auth.discovery import CXONE, discover


@click.command("discover")
@click.argument("tenant_id")
@click.option("--url", default=CXONE, show_default=True, help="The host that is asked.")
@options.as_json
def command(tenant_id: str, url: str, *, as_json: bool) -> None:
    """Ask NICE CXone where the tenant TENANT_ID is, and print what to configure.

    The command sends no credentials. For tenants of the government's cloud, give --url
    https://cxone-gov.niceincontact.com

    \b
    Example:  headgate config discover 11eb0c1a-4b6f-4c3e-9d2a-0242ac110003
    Exit:     0 found, 1 the host cannot be reached, 2 the tenant is not known there
    """
    place = discover(tenant_id, url)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(place)))
        return
    click.echo(f'base_url = "{place.base_url}"')
    if place.region:
        click.echo(f'region = "{place.region}"')
    click.echo(f'# with auth = "password": token_url = "{place.token_url}"')
