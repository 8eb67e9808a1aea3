"""Where a NICE CXone tenant's API and token endpoint are.

An operator asks once, and the answer goes into the configuration. A worker never asks, for it sends
secrets only to hosts that stand in its configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from pydantic import TypeAdapter, ValidationError

from workers.errors import ConfigError
from workers.http.connection import Caller
from workers.http.request import Request
from workers.settings.client import ClientSettings, profiles
from workers.settings.values import HttpUrl

if TYPE_CHECKING:
    from workers.answer.outcome import Answer, Json

#: Who knows every tenant outside of the government's own cloud.
CXONE: Final = "https://cxone.niceincontact.com"
#: The version that is proposed: several are alive side by side, and not every call is in each.
API_VERSION: Final = "v31.0"
_PATH: Final = "/.well-known/cxone-configuration"
_URL: Final[TypeAdapter[str]] = TypeAdapter(HttpUrl)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What belongs into the configuration of a client of this tenant."""

    base_url: str
    token_url: str  #: for auth "password"
    region: str  #: for auth "access_key"; "" = none was named, or none of the profile


def discover(tenant_id: str, origin: str = CXONE) -> Endpoints:
    """Ask where a tenant is; no credentials are sent.

    Args:
        tenant_id: The tenant's id at NICE.
        origin: Whom to ask, scheme and host.

    Raises:
        ConnectFailed: there is no connection.
        ConfigError: the origin is no URL, or it does not know the tenant.
    """
    try:
        client = ClientSettings(name="discovery", base_url=origin)
    except ValidationError:
        raise ConfigError("the URL to ask must be https:// and a host; correct it") from None
    caller = Caller(client, pool_size=0)
    path = f"{_PATH}?tenantId={quote(tenant_id, safe='')}"
    with caller.connection() as connection:
        answer = connection.send(Request("GET", path, {"Accept": "application/json"}))
    return read_endpoints(answer, origin)


def read_endpoints(answer: Answer, origin: str) -> Endpoints:
    """The endpoints that an answer names.

    Args:
        answer: What came back.
        origin: Who was asked.

    Raises:
        ConfigError: it names none, or, when it was asked by https, one that is not.
    """
    fields: Json = answer.json() if answer.status == HTTPStatus.OK else None
    try:
        api, auth = (_url(fields, name, origin) for name in ("api_endpoint", "auth_endpoint"))
    except (TypeError, KeyError, ValueError):
        answered = answer.error if answer.status is None else answer.status
        raise ConfigError(
            f"{origin} names no endpoints of this tenant (it answered {answered}); check the "
            f"tenant's id and whom you ask"
        ) from None
    area = fields.get("area")
    return Endpoints(
        base_url=f"{api}/inContactAPI/services/{API_VERSION}",
        token_url=f"{auth}/auth/token",
        region=area if area in profiles()["nice"]["regions"].values() else "",
    )


def _url(fields: Json, name: str, origin: str) -> str:
    """A URL of the answer, to which secrets will go: by https, if the question did."""
    url = _URL.validate_python(fields[name], strict=True)
    if urlsplit(origin).scheme == "https" and urlsplit(url).scheme != "https":
        raise ValueError(name)
    return url
