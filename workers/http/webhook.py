"""One signed POST of a JSON document, in the form of Standard Webhooks (standardwebhooks.com).

Any library of that form verifies it. Nothing is sent twice, and a redirect is not followed.
"""

from __future__ import annotations

import base64
import hmac
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests

from workers.errors import ConfigError
from workers.http.connection import Caller
from workers.http.request import Request
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from pydantic import SecretStr

    from workers.settings.notify import NotifySettings

#: How long a receiver may take, seconds; a connection has half of that.
LIMIT_S: Final = 10.0
#: What a secret of the form begins with, and bytes that it may have.
_PREFIX: Final = "whsec_"
_LEAST, _MOST = 24, 64
_HOW: Final = "make one of 32 bytes: openssl rand -base64 32"


class Webhook:
    """Where the documents go.

    Raises:
        ConfigError: URL, secret or certificates cannot be used.
    """

    def __init__(self, settings: NotifySettings) -> None:
        url = settings.url.get_secret_value() if settings.url else ""
        parts = urlsplit(url)
        self._settings = settings
        self._path = requests.Request("POST", url).prepare().path_url  # quoted
        receiver = ClientSettings(
            name="notify",
            base_url=f"{parts.scheme}://{parts.netloc}",
            ca_file=settings.ca_file,
            connect_timeout_s=LIMIT_S / 2,
            read_timeout_s=LIMIT_S,
            total_timeout_s=LIMIT_S,
        )
        try:
            Request("POST", self._path)
            self._caller = Caller(receiver, pool_size=0)
        except ValueError as error:
            raise ConfigError(f"notify: url: {error}") from None
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("client ")) from None
        read_key(settings.secret())

    def connect(self) -> None:
        """Open a connection, and send nothing; raises `ConnectFailed`."""
        self._caller.route.open(patient=True).close()

    def post(self, name: str, body: bytes) -> str:
        """Send a document under its name, which is the same at each try.

        Returns:
            What went wrong, in a few words; "" when the receiver took it.

        Raises:
            ConfigError: the secret cannot be used any more.
            ConnectFailed: nothing was sent.
        """
        moment = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(moment),
            "webhook-signature": sign(read_key(self._settings.secret()), name, moment, body),
        }
        with self._caller.connection() as connection:
            answer = connection.send(Request("POST", self._path, headers, body))
        if answer.status is None:
            return f"gave no answer ({answer.error})"
        taken = HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES
        return "" if taken else f"answered {answer.status}"


def sign(key: bytes, name: str, moment: int, body: bytes) -> str:
    """The signature of a document: HMAC-SHA256 over its name, its moment and its bytes."""
    digest = hmac.digest(key, f"{name}.{moment}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def read_key(secret: SecretStr) -> bytes:
    """The key that a secret stands for: base64, of which `whsec_` may stand in front.

    Raises:
        ConfigError: it is no secret of the form.
    """
    text = secret.get_secret_value().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ConfigError(f"notify: the secret is not base64; {_HOW}") from None
    if not _LEAST <= len(key) <= _MOST:
        raise ConfigError(f"notify: the secret has {len(key)} bytes, not 24 to 64; {_HOW}")
    return key
