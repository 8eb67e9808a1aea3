"""A broker of `amqps://` is verified, where Celery is given one on its command line.

The configuration takes no such broker. kombu's own transport verifies who has signed the
certificate, but not whose it is, unless it is told so.
"""

from __future__ import annotations

import ssl
from typing import Any

from kombu.transport import pyamqp
from typing_extensions import override


class AmqpsTransport(pyamqp.SSLTransport):
    """AMQP over TLS, with a certificate that is signed, and the host's."""

    @override
    def establish_connection(self) -> Any:
        client: Any = self.client
        given = client.ssl if isinstance(client.ssl, dict) else {}
        verified = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": client.hostname}
        client.ssl = {**given, **verified}
        return super().establish_connection()  # type: ignore[no-untyped-call]
