"""Why TLS failed, in words that say what to do, and how a server refuses a client's certificate."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from urllib3.util.wait import wait_for_read

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The oldest version that is spoken. Distributions have Pythons that would speak older ones.
OLDEST_TLS: Final = ssl.TLSVersion.TLSv1_2
#: How long a new connection waits for the server's word on the certificate that it was shown.
ACCEPTED_S: Final = 0.2
#: Alerts with which a server refuses the certificate of a client, or that it showed none.
_REFUSED: Final = re.compile(
    r"ALERT_(CERTIFICATE_REQUIRED|NO_CERTIFICATE|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|"
    r"CERTIFICATE_REVOKED|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN|UNKNOWN_CA|ACCESS_DENIED)$"
)
#: With these it says that it was shown none.
_DEMANDED: Final = ("CERTIFICATE_REQUIRED", "NO_CERTIFICATE")
#: What helps against each of OpenSSL's reasons, by its number.
_UNKNOWN_AUTHORITY: Final = "nobody who is trusted here has signed it: name its authority in {}"
_REMEDIES: Final = {
    9: "correct the clock of the server or of this machine",
    10: "renew it on the server",
    18: _UNKNOWN_AUTHORITY,
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    62: "correct the host of the URL, or the certificate",
    64: "correct the host of the URL, or the certificate",
}


@dataclass(frozen=True, slots=True)
class Names:
    """How the configuration calls what a user can set for a link."""

    authorities: str  #: the file of those that are trusted
    certificate: str  #: the file of the client's own


def describe_failure(error: BaseException, names: Names) -> str | None:
    """Describe the failure of TLS that is the error or stands behind it; None = there is none."""
    for failure in _chain(error):
        if isinstance(failure, ssl.SSLCertVerificationError):
            words = failure.verify_message.rstrip(".")
            remedy = _REMEDIES.get(failure.verify_code, "correct it on the server")
            remedy = remedy.format(names.authorities)
            return f"its certificate is not accepted: {words}; {remedy}"
        if isinstance(failure, ssl.SSLError):
            words = (failure.reason or "no reason given").replace("_", " ").lower()
            if "protocol version" in words or words == "unsupported protocol":
                words += "; the server speaks no TLS 1.2 or later: bring it up to date"
            elif words.endswith("alert handshake failure"):  # TLS 1.2 has no other word for it
                words += f"; the server may demand a client certificate: set {names.certificate}"
            return describe_refusal(failure, names) or f"TLS failed: {words}"
    return None


def describe_refusal(error: BaseException, names: Names) -> str | None:
    """Describe a server's refusal of the client's certificate; None = the error is none.

    Such an alert ends the handshake: the server did not look at what was sent behind it.
    """
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    alert = _REFUSED.search(reason or "")
    if not alert:
        return None
    if alert[1] in _DEMANDED:
        return f"the server demands a client certificate; set {names.certificate}"
    words = alert[1].replace("_", " ").lower()
    return f"the server does not accept the client certificate: {words}; check {names.certificate}"


def await_refusal(sock: ssl.SSLSocket) -> None:
    """Wait for what a server says to the certificate that it was shown.

    With TLS 1.3 the handshake is over for the client before the server has looked at the
    certificate. A server that takes it sends session tickets as a rule, one that does not sends an
    alert. Here nothing was admitted yet; later the alert would stand in place of an answer.

    Args:
        sock: A connection after its handshake; urllib3's TLS within TLS has the same methods.

    Raises:
        OSError: it was not accepted, or the connection was closed.
    """
    if sock.version() != "TLSv1.3" or not wait_for_read(sock, ACCEPTED_S):
        return
    sock.settimeout(0)
    try:
        data = sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return  # tickets
    raise ConnectionResetError(0, "closed after the handshake" if not data else "spoke unasked")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it, but for "nothing to read yet"."""
    while error is not None:
        if not isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            yield error
        error = error.__cause__ or error.__context__
