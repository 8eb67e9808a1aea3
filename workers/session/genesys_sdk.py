"""`governed_api_client`: the official Genesys SDK on the fleet's quota.

    import PureCloudPlatformClientV2 as genesys

    outbound = genesys.OutboundApi(governed_api_client("acme", wait_s=10))
    outbound.get_outbound_campaigns()

By itself the SDK repeats a call up to ten times, writes too: after a lost connection, and after a
429 or 503 with Retry-After. There is no setting for that. Here its calls leave through a governed
session, which sends once, and again only where nothing was done.
"""

from __future__ import annotations

import json
from http.client import responses
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.filepost import encode_multipart_formdata

from workers.errors import UsageError
from workers.governor import flows
from workers.session.session import governed_session

if TYPE_CHECKING:
    import requests

    from workers.session.session import GovernedSession

#: An object of the SDK, which ships no types.
Sdk: TypeAlias = Any

PACKAGE: Final = "PureCloudPlatformClientV2"
#: Methods with which the SDK sends a body.
BODIES: Final = frozenset(("OPTIONS", "PATCH", "POST", "PUT"))
#: What the SDK takes for a success.
SUCCESS: Final = range(200, 206)


def governed_api_client(
    client: str,
    *,
    lane: str = "normal",
    tenant: str = flows.NO_TENANT,
    wait_s: float = 30.0,
    config: str | None = None,
) -> Sdk:
    """Make an `ApiClient` of the SDK whose calls are governed; threads may share it.

    Host, token, timeouts, proxy and certificates are those of the client: what the SDK's own
    configuration says of them is ignored. An answer other than 200 to 205 is an `ApiException`, as
    always. `GovernedSession.request` lists what is raised where there is no answer.

    Args:
        client: Its name in the configuration.
        lane: urgent, normal or bulk.
        tenant: Who sends, where the client has tenants.
        wait_s: The longest time that a call may wait for its tokens, seconds >= 0.
        config: The configuration's file; None = as for the commands.

    Raises:
        UsageError: the SDK is missing or too old; lane or tenant are none. A call raises it when
            the SDK asks for a token, by itself after a 401 too: the token is Headgate's.
        ConfigError: the configuration is wrong, or has no such client.
        StoreAway: the store does not answer.
    """
    sdk = _part("api_client")
    session = governed_session(client, lane=lane, tenant=tenant, wait_s=wait_s, config=config)
    api = sdk.ApiClient(host=session.base_url)
    api.gateway_configuration = None  # base_url alone says where calls go
    api.set_http_client(_http_client(session))
    return api


def _part(name: str) -> Sdk:
    """Import a module of the SDK: late, for the SDK is optional and takes seconds."""
    try:
        return import_module(f"{PACKAGE}.{name}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith(PACKAGE):
            raise
        raise UsageError(
            "the Genesys SDK is not installed, or has no HTTP clients yet; "
            'install "headgate[genesys]"'
        ) from None


def _http_client(session: GovernedSession) -> Sdk:
    """Make what the SDK sends its calls through."""

    class GovernedHttpClient(_part("abstract_http_client").AbstractHttpClient):  # type: ignore[misc]  # made here, for the SDK is optional
        def request(self, http_request_options: Sdk) -> Sdk:
            call = http_request_options
            if self.pre_hook:
                call = self.pre_hook(call)
            answer = _answer(_send(session, call))
            return self.post_hook(answer) if self.post_hook else answer

    return GovernedHttpClient()


def _send(session: GovernedSession, call: Sdk) -> requests.Response:
    """Send one call, with the bytes that the SDK's own HTTP client would send."""
    if urlsplit(call.url).path.endswith("/oauth/token"):
        raise UsageError(
            "the access token is Headgate's: call no login of the SDK, and set no refresh_token"
        )
    if not call.url.startswith(f"{session.base_url}/"):
        raise UsageError(
            f"the SDK would call another host than that of client {session.client.name}; "
            f"leave api_client.host as it is"
        )
    headers = {name: str(value) for name, value in call.headers.items()}
    headers.setdefault("Content-Type", "application/json")
    body = _body(call, headers) if call.method in BODIES else None
    query = urlencode(call.query_params)
    answer: requests.Response = session.request(
        call.method, call.url, params=query, data=body, headers=headers
    )
    return answer


def _body(call: Sdk, headers: dict[str, str]) -> bytes:
    """Build the body; a form with files completes its Content-Type in `headers`."""
    if call.post_params and call.body:
        raise ValueError("body and post_params cannot be sent together; leave one out")
    content_type = headers["Content-Type"]
    if content_type == "application/x-www-form-urlencoded":
        return urlencode(call.post_params).encode()
    if content_type == "multipart/form-data":
        body, headers["Content-Type"] = encode_multipart_formdata(call.post_params)
        return body
    return json.dumps(call.body).encode()  # none is "null", as the SDK sends it


def _answer(response: requests.Response) -> Sdk:
    """Build the answer as the SDK reads it; raises its `ApiException` for all but a success."""
    rest = _part("rest")
    status = response.status_code
    answer = rest.RESTResponse(
        urllib3.HTTPResponse(
            body=BytesIO(response.content),
            headers=response.headers,
            status=status,
            reason=responses.get(status, ""),
            decode_content=False,
        )
    )
    # As in the SDK a success must be text; of a failure what can be read is shown.
    answer.data = answer.data.decode("utf-8", "strict" if status in SUCCESS else "replace")
    if status not in SUCCESS:
        raise rest.ApiException(http_resp=answer)
    return answer
