"""What Flower lacks: a plain refusal for each wrong login, a word of it, headers for browsers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from flower.views import BaseHandler
from tornado.web import HTTPError

from workers.broker.logs import LogLines

if TYPE_CHECKING:
    from tornado.web import RequestHandler

#: What a browser may do with a page: load nothing from elsewhere, send nothing there, show it in no
#: frame, and keep no copy. One of Flower's pages has a script of its own, and many a style.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
#: HTTP's status of a login that is none.
_UNAUTHORIZED: Final = 401
#: Seconds between two words of refused logins: there may be thousands of them.
_REST_S: Final = 10.0

logger = logging.getLogger(__name__)


class _Refusals:
    """Logs that logins were refused: the first at once, later ones with their number."""

    def __init__(self) -> None:
        self._unsaid = 0
        self._quiet_until_s = 0.0

    def add(self, address: str | None) -> None:
        self._unsaid += 1
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            logger.warning("refused logins: %d, the last from %s", self._unsaid, address)
            self._unsaid, self._quiet_until_s = 0, now_s + _REST_S


def guard_pages(log_format: str) -> None:
    """Let every page of this process's Flower have them, and its log the lines of a worker's."""
    set_headers, find_user = BaseHandler.set_default_headers, BaseHandler.get_current_user
    refusals = _Refusals()

    def set_default_headers(handler: RequestHandler) -> None:
        set_headers(handler)
        for name, value in HEADERS.items():
            handler.set_header(name, value)

    def get_current_user(handler: RequestHandler) -> Any:  # noqa: ANN401 -- as Flower's
        try:
            return find_user(handler)
        except (TypeError, HTTPError):  # TypeError: it compares ASCII alone
            if "Authorization" in handler.request.headers:  # a browser asks without one first
                refusals.add(handler.request.remote_ip)
            raise HTTPError(_UNAUTHORIZED) from None

    BaseHandler.set_default_headers = set_default_headers
    BaseHandler.get_current_user = get_current_user
    shown = logging.StreamHandler()
    shown.setFormatter(LogLines(log_format))
    logging.getLogger().addHandler(shown)  # so that Tornado adds none
