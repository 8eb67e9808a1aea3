"""A store's clock that is set back: every stored moment moves along, or may stay for a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.lua_legend import read_legend
from tests.support.rig import APP, FAILED, RETRY, Rig, S
from tests.support.stored import transaction_hash
from workers.settings.limits import LimitSettings
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from workers.store.connection import Store

#: How far the clock is set back, and a moment before that.
BACK: Final = 5 * 3600 * S
FEW: Final = LimitSettings(name="few", count=1, shape="concurrent")

#: Stored names of the legend that hold a moment which moves.
MOVED: Final = frozenset(
    {
        *("key.backlog:<flow>:due", "key.deadlines", "key.retries", "key.quarantine"),
        *("key.permits", "key.oauth:lock", "key.reclaimed", "gov.k:<scope>", "gov.d:<scope>"),
        *("breaker.opened_us", "breaker.due_us", "breaker.ordered_us"),
        *("gov.c:<limit>", "gov.g:<limit>", "gov.z:<scope>", "gov.w:<worker>", "gov.m:<worker>"),
        *("gov.o:<job>", "gov.next", "gov.at", "gov.asked", "gov.opened_us", "gov.paused"),
        *("gov.refused_us", "tx.t1", "tx.t2", "tx.t3", "tx.t4", "tx.t5", "job.started_us"),
        *("oauth.asked_us", "oauth.renew_us", "oauth.expires_us", "oauth.failed_until_us"),
        *("oauth.refused_us", "oauth.worked_us"),
    }
)
#: Those that stay where they are, and why they may.
STAYS: Final = {
    "key.jobs": "when a job was accepted is history, and gives the order of the jobs",
    "key.dead": "the moments of a stream are history",
    "key.attempts": "as those of dead",
    "key.audit": "as those of dead",
    "key.refusals": "as those of dead",
    "key.damaged": "when damage was seen is history",
    "key.writes:<task>": "its moments are counted on by gov.set_back, which grows",
    "key.healthy": "it goes with the evidence",
    "key.evidence": "it goes as a whole: its answers have no place in the new time",
    "key.unconnected": "who fails says so again, and a moment that is far off says nothing",
    "gov.sent": "the number of the newest grant counts on gov.set_back, and never goes back",
    "breaker.probers": "they go: nobody waits for those who are out",
    "gov.n:<slot>": "a second to come counts nothing, and its slot is taken within 16 seconds",
    "gov.u:<slot>": "as those of n",
    "gov.x:<slot>": "as those of n",
    "tx.b": "a person gave the moment of the backup",
    "tx.rf": "it has counts and no moment",
    "job.since": "a person gave the moment of the backup",
    "job.began_us": "history: nothing waits for it",
    "job.finished_us": "history: nothing waits for it",
}
#: Those that hold no moment.
OTHERS: Final = frozenset(
    {
        *(
            "key.gov",
            "gov.owner",
            "key.flows",
            "key.active",
            "key.backlog:<flow>",
            "key.needs_page",
        ),
        *(
            "key.job:<job>",
            "key.job:<job>:page:<n>",
            "key.damaged:<name>",
            "key.tx:<key>",
            "key.tx:caller:<name>",
            "key.overrides",
            "key.oauth",
            "key.bound",
            "key.breaker:<scope>",
            "key.installation:<id>",
            "key.waiters:<key>",
        ),
        "key.damaged:<name>",
        *("gov.b:<limit>", "gov.l:<limit>", "gov.y:<scope>", "gov.q:<lane>"),
        *("gov.p:<lane>:<tenant>", "gov.v:<lane>", "gov.opened", "gov.set_back"),
        *("gov.quarantined", "gov.refused", "gov.capped", "gov.s:<lane>:<limit>"),
        "gov.429:<scope>",
        *("overrides.#", "overrides.#agreed", "overrides.<limit>"),
        *("breaker.cause", "breaker.why", "breaker.every_us", "breaker.probes", "breaker.good"),
        *("oauth.token", "oauth.generation", "oauth.refused", "oauth.failure"),
        *("oauth.renewals", "oauth.failure_refused", "oauth.failed_by"),
        *("tx.s", "tx.k", "tx.n", "tx.fl", "tx.g", "tx.j", "tx.p", "tx.r", "tx.r:", "tx.h"),
        *("tx.f", "tx.gn", "tx.g0", "tx.pt", "tx.at", "tx.th", "tx.cr", "tx.cc", "tx.pb", "tx.m"),
        *("tx.u", "tx.st", "tx.id", "tx.co", "tx.e", "tx.an", "tx.ids", "tx.d", "tx.sw"),
        *("tx.ca", "tx.sd", "tx.uf", "tx.aw", "tx.ns"),
        *("job.schema", "job.kind", "job.client", "job.name", "job.job_params", "job.list"),
        *("job.digest", "job.joined", "job.low", "job.rows", "job.calls", "job.pages"),
        *("job.next_page", "job.released", "job.finished_tx", "job.ended", "job.succeeded"),
        *("job.failed", "job.unknown", "job.cancelled", "job.expired", "job.rejected"),
        *("job.throttled", "job.replayed", "job.started"),
    }
)


def roll_back(rig: Rig) -> int:
    rig.us -= BACK
    return int(Scripts(rig.store, rig.keys, rig.clock)("clock_rollback"))


def test_every_stored_name_is_known_to_hold_a_moment_that_moves_or_stays_or_none() -> None:
    legend = {f"{where}.{name}" for where, names in read_legend().items() for name in names}

    assert legend == MOVED | {*STAYS} | OTHERS
    assert len(MOVED) + len(STAYS) + len(OTHERS) == len(legend)


@pytest.mark.parametrize("name", sorted(MOVED))
def test_a_moment_moves_along_with_a_clock_that_is_set_back(store: Store, name: str) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1)
    where, _, stored = name.partition(".")
    moment = rig.us + 7 * S
    store.hset(rig.keys.governor, "at", rig.us)
    read = keep(rig, where, stored.replace("<", "").replace(">", ""), key, moment)
    before = read()

    assert roll_back(rig) == (BACK + 7 * S if stored in {"at", "asked"} else BACK)

    assert before - read() == (BACK + 7 * S if stored in {"at", "asked"} else BACK)


def keep(rig: Rig, where: str, name: str, key: str, moment: int) -> Any:
    """Store a moment under a name of the legend; returns what reads it."""
    store, prefix = rig.store, rig.keys.prefix
    if name == "oauth:lock":
        store.set(prefix + name, "somebody", px=2 * BACK // 1000)
        return lambda: round(store.pttl(prefix + name) / 1e5) * 100 * S
    if where == "key":
        full = prefix + name.replace("flow", flow_of(rig))
        store.zadd(full, {key: moment})
        return lambda: int(store.zscore(full, key) or 0)
    full = {
        "gov": rig.keys.governor,
        "oauth": rig.keys.oauth,
        "job": rig.keys.job("j1"),
        "breaker": prefix + "breaker:client",
    }.get(where, rig.keys.transaction(key))
    if where == "tx":
        store.zadd(rig.keys.quarantine, {key: moment})
    if where == "breaker":
        store.hset(rig.keys.governor, "k:client", moment)
    text = {"z": "9 {}", "w": "4 {}", "m": "4 {}", "paused": "{} 0"}.get(
        name.split(":", maxsplit=1)[0], "{}"
    )
    store.hset(full, name, text.format(moment))
    place = text.split().index("{}")
    return lambda: int((store.hget(full, name) or "").split()[place])


def flow_of(rig: Rig) -> str:
    (flow,) = rig.store.hkeys(rig.keys.flows)
    return flow


def test_a_permit_ends_when_it_was_to_end_although_the_clock_was_set_back(store: Store) -> None:
    rig = Rig(store, FEW)
    rig.line_up(2)
    rig.ring()
    run = Scripts(store, rig.keys, rig.clock)
    assert run("acquire", "permit", flow_of(rig), 70 * S, S)[0] == "WAIT"  # both bells are out
    rig.us += 4 * S
    rig.governor.sweep()
    store.hset(rig.keys.governor, "at", rig.us)
    assert run("acquire", "permit", flow_of(rig), 70 * S, S)[0] == "GO"

    assert roll_back(rig) == BACK
    rig.us += 71 * S
    rig.ring()
    rig.governor.sweep()

    assert rig.governed("l") == {}


def test_a_dead_letter_that_is_replayed_has_a_key_as_old_as_before(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1)
    rig.fill()
    rig.ring()
    rig.serve(key, verdict=FAILED)
    first_sent = int(transaction_hash(rig, key)["t1"])
    rig.us += 3600 * S
    rig.ring()

    roll_back(rig)

    assert int(transaction_hash(rig, key)["t1"]) == first_sent - BACK


def test_a_damaged_transaction_keeps_no_moment_of_the_others(store: Store) -> None:
    rig = Rig(store, APP)
    one, two = rig.line_up(2)
    rig.fill()
    rig.ring()
    rig.serve(one, verdict=RETRY)
    rig.serve(two, verdict=RETRY)
    store.delete(rig.keys.transaction(one))
    store.set(rig.keys.transaction(one), "damaged")
    first_sent = int(transaction_hash(rig, two)["t1"])

    roll_back(rig)

    assert int(transaction_hash(rig, two)["t1"]) == first_sent - BACK


def test_a_session_alone_notices_that_the_clock_was_set_back(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(1)
    run = Scripts(store, rig.keys, rig.clock)
    flow = flow_of(rig)
    store.delete(rig.keys.backlog(flow))
    for _ in range(80):
        if (word := run("acquire", "permit", flow, 70 * S, S)[0]) == "GO":
            break
        rig.us += 25_000
    assert word == "GO"

    rig.us -= BACK
    assert run("acquire", "next", flow, 70 * S, S) == ["CLOCK", 0]
    assert run("clock_rollback") == BACK

    assert run("acquire", "next", flow, 70 * S, S)[0] in {"GO", "WAIT"}
    short = run("acquire", "next", flow, 70 * S, S)
    assert short[0] == "GO" or short[1] < S


def test_what_a_clock_that_is_set_back_does_not_move_along(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1)
    rig.fill()
    rig.ring()
    rig.grant(key)
    rig.ring()
    gov, breaker = rig.keys.governor, rig.keys.breaker("client")
    sent = int(store.hget(gov, "sent") or 0)
    store.hset(gov, mapping={"k:client": rig.us, "set_back": 5})
    store.hset(breaker, mapping={"probers": f"{key}={rig.us + S}", "due_us": rig.us})
    store.hset(rig.keys.evidence, "client", "evidence")
    store.hset(rig.keys.healthy, "client", 9)

    assert roll_back(rig) == BACK

    assert int(store.hget(gov, "sent") or 0) == sent > rig.us
    assert store.hget(gov, "set_back") == str(5 + BACK)
    assert store.hget(breaker, "probers") == ""
    assert store.exists(rig.keys.evidence, rig.keys.healthy) == 0
