"""A server whose release is known to be unsafe is told in a sentence, and any other is not."""

from __future__ import annotations

import pytest

from workers.store.embedded import packaged_binary
from workers.store.releases import LEAST_SAFE, unsafe_sentence


def told(kind: str, release: str) -> str:
    """What is said of a server; Valkey also names the Redis that it is compatible with."""
    info = {"redis_version": "7.2.4"}
    return unsafe_sentence({**info, f"{kind}_version": release})


@pytest.mark.parametrize(
    ("kind", "release", "least"),
    [
        ("redis", "6.2.24", "7.2.16"),
        ("redis", "7.0.15", "7.2.16"),
        ("redis", "7.4.10", "7.4.11"),
        ("redis", "8.0.2", "8.2.9"),
        ("redis", "8.0.6", "8.2.9"),  # its line got no further release
        ("redis", "8.2.8", "8.2.9"),
        ("redis", "8.10.0", "8.10.1"),
        ("valkey", "8.1.3", "8.1.9"),
        ("valkey", "9.1.0", "9.1.1"),
    ],
)
def test_an_unsafe_release_is_told_with_the_one_to_use(kind: str, release: str, least: str) -> None:
    sentence = told(kind, release)

    assert sentence.startswith(f"{kind} {release} is known to be unsafe")
    assert sentence.endswith(f"use {least} or a newer one")


@pytest.mark.parametrize(
    ("kind", "release"),
    [
        *((kind, ".".join(map(str, it))) for kind, all_of in LEAST_SAFE.items() for it in all_of),
        ("redis", "8.2.10"),
        ("redis", "8.12.0"),
        ("redis", "9.0.0"),
        ("valkey", "9.2.0"),
        ("valkey", "255.255.255"),  # built from a branch
        ("redis", "unknown"),
        ("redis", ""),
    ],
)
def test_nothing_is_said_of_any_other(kind: str, release: str) -> None:
    assert told(kind, release) == ""


@pytest.mark.parametrize("packaged", [True, False])
def test_of_the_embedded_server_it_is_said_what_a_user_can_do(*, packaged: bool) -> None:
    program = packaged_binary() if packaged else "/usr/bin/valkey-server"
    info = {"valkey_version": "9.1.0", "executable": program}

    remedy = "update Headgate, which brings it along" if packaged else "use 9.1.1 or a newer one"
    assert unsafe_sentence(info, embedded=True).endswith(f"; {remedy}")


def test_each_line_stands_once_and_in_order() -> None:
    for releases in LEAST_SAFE.values():
        lines = [it[:2] for it in releases]
        assert lines == sorted(set(lines))
