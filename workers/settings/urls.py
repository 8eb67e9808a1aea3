"""URLs of a configuration: what each may hold, checked unopened. No error tells a value."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote, urlsplit

import redis
from pydantic import AfterValidator, SecretStr


def _http_url(value: str) -> str:
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("must not hold spaces or control characters")
    try:
        url = urlsplit(value)
        url.port  # noqa: B018 -- parsed when it is asked for
    except ValueError:
        raise ValueError("cannot be read as a URL; correct its host or port") from None
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must start with http:// or https:// and a host")
    if "@" in url.netloc:
        raise ValueError("must not hold a user or password; leave out what stands before the @")
    if url.fragment:
        raise ValueError("must not hold a fragment; leave out the # and what follows")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    if "?" in value:
        raise ValueError("must not hold a query; leave out the ? and what follows")
    return value


def _proxy_url(value: str) -> str:
    if value == "none":
        return value
    if "@" in value:
        raise ValueError("must not hold a user or password; use proxy_username and its password")
    url = _http_url(value)
    if urlsplit(url).path or "?" in url:
        raise ValueError("must end after its host and port; leave out what follows")
    return url


def _redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    fault = ValueError(
        "must be redis://[[user]:password@]host[:port][/number], or rediss:// with TLS; "
        "write special characters of the password as %23 for #, %2F for /, %3F for ?, %40 for @"
    )
    try:
        parts = urlsplit(url)
        # Nothing is opened; what stands in the query becomes options of the connection.
        redis.ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, redis.RedisError):
        raise fault from None
    # A special character that is not quoted ends the password early, without an error.
    whole = re.fullmatch(r"/?[0-9]*", parts.path) and not parts.fragment and "@" not in parts.query
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or not whole:
        raise fault
    return value


def with_password(url: str, password: str) -> str:
    """A Redis URL without a password, with this one."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


HttpUrl = Annotated[str, AfterValidator(_http_url)]
BaseUrl = Annotated[HttpUrl, AfterValidator(_base_url)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
