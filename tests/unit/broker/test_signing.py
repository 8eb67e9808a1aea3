"""A control command is obeyed when this installation signed it, now, and for the first time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from celery.worker.control import Panel

from workers.broker.signing import (
    READS,
    REST_S,
    SIGNATURE,
    WINDOW_S,
    ControlCommand,
    NotObeyed,
    Signer,
)
from workers.errors import StoreAway

GROW = ControlCommand(method="pool_grow", arguments={"n": 2}, destination=["w1@a"], ticket="t")


@dataclass
class Clock:
    """Seconds since the epoch, as a test says."""

    s: float = 1_790_000_000.0

    def __call__(self) -> float:
        """The moment that is held."""
        return self.s


@dataclass
class Secret:
    """The secret of an installation, or a store that is away."""

    value: bytes = b"ours"
    reads: int = 0
    away: bool = field(default=False)

    def __call__(self) -> bytes:
        """Read it."""
        self.reads += 1
        if self.away:
            raise StoreAway("the store did not answer")
        return self.value


def signed(signer: Signer, command: ControlCommand = GROW) -> ControlCommand:
    """The command as it is sent."""
    arguments = {**(command.arguments or {}), SIGNATURE: signer.sign(command)}
    return command.model_copy(update={"arguments": arguments})


def test_what_was_signed_with_the_same_secret_is_taken_once() -> None:
    clock = Clock()
    here, there = Signer(Secret(), clock), Signer(Secret(), clock)
    command = signed(here)

    there.require_signed(command)

    with pytest.raises(NotObeyed, match="sent before"):
        there.require_signed(command)
    there.require_signed(signed(here))  # the same once more, by who may


@pytest.mark.parametrize(
    "change",
    [
        {"method": "pool_shrink"},
        {"destination": None},
        {"destination": ["w1@a", "w2@a"]},
        {"ticket": "u"},
        {"pattern": "w*", "matcher": "glob"},
    ],
)
def test_a_signature_is_of_one_command_alone(change: dict[str, Any]) -> None:
    clock = Clock()
    command = signed(Signer(Secret(), clock))

    with pytest.raises(NotObeyed, match="not signed"):
        Signer(Secret(), clock).require_signed(command.model_copy(update=change))


def test_a_signature_covers_every_argument_and_its_own_moment() -> None:
    clock = Clock()
    here, there = Signer(Secret(), clock), Signer(Secret(), clock)
    arguments = dict(signed(here).arguments or {})
    moment, nonce, digest = arguments[SIGNATURE]

    for other in (
        {**arguments, "n": 3},
        {**arguments, "more": 1},
        {SIGNATURE: arguments[SIGNATURE]},
        {**arguments, SIGNATURE: [str(float(moment) + 1), nonce, digest]},
        {**arguments, SIGNATURE: [moment, "other", digest]},
        {**arguments, SIGNATURE: [moment, nonce, "ü"]},
        {**arguments, SIGNATURE: [moment, nonce]},
        {**arguments, SIGNATURE: "x"},
        {"n": 2},
        None,
    ):
        with pytest.raises(NotObeyed, match="not signed"):
            there.require_signed(GROW.model_copy(update={"arguments": other}))


def test_another_installation_signs_nothing_here() -> None:
    clock = Clock()
    with pytest.raises(NotObeyed, match="not signed"):
        Signer(Secret(), clock).require_signed(signed(Signer(Secret(b"theirs"), clock)))


@pytest.mark.parametrize("late_s", [WINDOW_S + 1, -WINDOW_S - 1])
def test_a_signature_holds_for_a_short_while(late_s: float) -> None:
    clock = Clock()
    there = Signer(Secret(), Clock(clock.s - 1000))
    command = signed(Signer(Secret(), clock))
    there._clock = Clock(clock.s + late_s)

    with pytest.raises(NotObeyed, match="at another time"):
        there.require_signed(command)
    there._clock = clock
    there.require_signed(command)


def test_a_process_obeys_nothing_that_was_signed_before_it_began() -> None:
    clock = Clock()
    command = signed(Signer(Secret(), clock))
    clock.s += 1

    with pytest.raises(NotObeyed, match="at another time"):
        Signer(Secret(), clock).require_signed(command)


def test_a_store_that_is_away_is_not_asked_for_each_forged_command() -> None:
    clock, secret = Clock(), Secret(away=True)
    command = signed(Signer(Secret(), clock))
    there = Signer(secret, clock)

    for _ in range(100):
        with pytest.raises(NotObeyed, match="cannot be read"):
            there.require_signed(command)
    assert secret.reads == 1

    secret.away = False
    clock.s += REST_S
    there.require_signed(command)


def test_only_a_read_of_nodes_by_their_names_is_open() -> None:
    assert ControlCommand(method="ping").is_open
    assert ControlCommand(method="stats", destination=["w1@a"]).is_open
    assert not ControlCommand(method="ping", pattern="(.*)*x", matcher="pcre").is_open
    # Of what Celery calls a read, these write: ids of revoked tasks, samples, a file.
    reads = {name for name, meta in Panel.meta.items() if meta.type == "inspect"}
    aliases = {meta.alias for meta in Panel.meta.values() if meta.alias}
    assert (reads | aliases) - READS == {"hello", "memdump", "memsample", "objgraph"}
    # One that Celery calls no read is sent by each listener to events, and asks for one event.
    assert READS - (reads | aliases) == {"heartbeat"}
