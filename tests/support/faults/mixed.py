"""A job with rows of every guard, and the faults that they are to meet, chosen by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from tests.support.fleet import looked_up

if TYPE_CHECKING:
    from collections.abc import Iterable

#: As rows name them; the steps of `read` have no effect, and need none.
GUARDS: Final = ("key", "upsert", "lookup", "none", "read")
#: The kinds of the sandbox that leave a sender in doubt. A call that is to meet two meets the one
#: that comes first here with its first send.
FAULTS: Final = ("drop_before", "hang", "5xx_after", "drop_after", "5xx_stored")


@dataclass(frozen=True, slots=True)
class Mode:
    """What the provider matches keys by, and what its client says of it."""

    name: str  #: as the table shows it
    sandbox: str  #: `idempotency` of the sandbox
    client: dict[str, Any]  #: what the client's configuration says of keys
    honours: bool = True  #: the provider honours keys

    @property
    def guards(self) -> tuple[str, ...]:
        """The guards that promise something there."""
        return tuple(it for it in GUARDS if self.honours or it != "key")


MODES: Final = (
    Mode("method, path and key", "method_path_key", {"idempotency": "key"}),
    Mode("the key alone", "key", {"idempotency": "key", "key_scope": "step"}),
    Mode("nothing", "off", {"idempotency": "none"}, honours=False),
)
#: What the sandbox does unless it is told otherwise, and the one where only the guards help.
DEFAULT, KEYLESS = MODES[0], MODES[2]


@dataclass(frozen=True, slots=True)
class Mixed:
    """Rows in a random order, and what the sandbox does to their calls."""

    rows: list[dict[str, Any]]
    faults: list[dict[str, Any]]


def mixed(seed: int, guards: Iterable[str], times: int) -> Mixed:
    """Rows of two steps each, one of which is to meet a fault, or two of them, or none.

    Args:
        seed: The same one makes the same rows and faults.
        guards: Of the rows; both steps of a row have the same.
        times: How many rows of each guard meet each fault alone. As many as that meet two, and as
            many none.
    """
    rng = random.Random(seed)
    rows, met = list[dict[str, Any]](), {it: list[str]() for it in FAULTS}
    for guard in guards:
        plans: list[tuple[str, ...]] = [*((it,) for it in FAULTS), ()] * times
        plans += rng.choices(list(combinations(FAULTS, 2)), k=times)
        for n, plan in enumerate(plans):
            row = f"{guard}{n}"
            hit = f"{row}.{rng.randint(1, 2)}"
            rows.append({"id": row, "steps": [step(guard, row, k) for k in (1, 2)]})
            for fault in plan:
                # The sandbox names a read by its method and path.
                met[fault].append(f"GET /things/{hit}" if guard == "read" else hit)
    rng.shuffle(rows)
    # A look-up is a call like any other, and fails like one. Only the first of a step does: the
    # last one decides, and one that tells nothing would leave the row unknown.
    looks = [f"GET /things/lookup{n}.{k}" for n in range(0, len(rows), 2) for k in (1, 2)]
    kinds = {**met, "5xx_before": looks[::2], "drop_before": [*met["drop_before"], *looks[1::2]]}
    faults = [
        {"kind": kind, "when": {"business_ids": names}, "per_business_id_times": 1, "hang_s": 3}
        for kind, names in kinds.items()
    ]
    return Mixed([{"line": n, **row} for n, row in enumerate(rows, 1)], faults)


def step(guard: str, row: str, k: int) -> dict[str, Any]:
    """One call, to a path of its own: so the journal tells whose it was."""
    name = f"{row}.{k}"
    it: dict[str, Any] = {"name": f"s{k}", "method": "POST", "path": f"/things/{name}"}
    if guard == "read":
        return {**it, "method": "GET"}
    it |= {"guard": guard, "body": {"business_id": name}}
    if guard == "upsert":  # sent again, the same contact stays one contact
        it["path"] = f"/api/v2/outbound/contactlists/{name}/contacts"
        it["body"] = [{"id": name, "contactListId": name, "data": {"note": "Köln"}}]
    return it | looked_up(name, name) if guard == "lookup" else it
