"""Steps of kind `campaigns`: a campaign of Genesys Cloud with its contacts, from list to start.

    create_list ─► load ─► create_campaign ─► start

`load` makes no call: the contacts are a job of their own, which was submitted with the campaign and
waits. The step releases it, now that its list has an id, and then looks from time to time whether
it has ended.

What is made carries the first digits of the transaction's key in its name. So a look-up by name
finds this transaction's work and nobody else's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tasks.genesys.operations import OPERATIONS
from tasks.kind import Acted, CannotSay, Kept, Planned, StepKind
from tasks.rest import looking
from tasks.rest.calls import id_in
from workers.answer.guards import Guard, Sight
from workers.http.connection import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.answer.outcome import Answer
    from workers.clients import Client
    from workers.governor.governor import Go
    from workers.ledger.ledger import Loading, Row
    from workers.settings.client import ClientSettings

#: Between two looks at the contacts, seconds.
SOONEST_S, LATEST_S = 0.5, 10.0
#: Hexadecimal digits of a key in the names that are made, and in the name of a job of contacts.
TAG, CHILD = 8, 12
#: The one that a campaign has when it was started, whatever was done to it since.
STARTED: Final = frozenset(("on", "complete", "stopping", "forced_stopping", "forced_off"))
LOAD: Final = "load"


def _planned(name: str, operation: str, lookup: str) -> Planned:
    it = OPERATIONS[operation]
    return Planned(it.route, it.guard, OPERATIONS[lookup].route, name=name)


#: The steps of a row; the last one is left out where nobody wants a start.
STEPS: Final = (
    _planned("create_list", "create_list", "find_list"),
    Planned("", Guard.READ, name=LOAD, governed=False),
    _planned("create_campaign", "create_campaign", "find_campaign"),
    _planned("start", "start_campaign", "read_campaign"),
)


def child_of(key: str) -> str:
    """The job of the contacts that belong to the campaign of this key.

    Example:
        >>> child_of("1f0c6d2a-9b34-8d11-9a3b-0f6c2d4e8b17")
        'l-1f0c6d2a9b34'
    """
    return f"l-{key.replace('-', '')[:CHILD]}"


def name_of(name: str, key: str) -> str:
    """What a list or campaign is called at the provider.

    Example:
        >>> name_of("May", "1f0c6d2a-9b34-8d11-9a3b-0f6c2d4e8b17")
        'May [1f0c6d2a]'
    """
    return f"{name} [{key[:TAG]}]"


class CampaignSteps(StepKind):
    """Rows are campaigns as `orchestration.intake.readers.campaigns` reads them."""

    task = "genesys.campaign"
    act_task = "genesys.load"

    def plan(self, row: Row, about: Mapping[str, Any], client: ClientSettings) -> Sequence[Planned]:
        """Up to the start, or to the campaign that somebody else will start."""
        del row, client
        return STEPS if about["start"] else STEPS[:-1]

    def request(self, row: Row, about: Mapping[str, Any], grant: Go) -> Request:
        """The step's call, or its look-up."""
        del about
        match STEPS[grant.step - 1].name:
            case "create_list":
                return _create(row["list"], grant, "create_list", "find_list")
            case "create_campaign":
                body = {**row["campaign"], "contactList": {"id": _kept(grant, "list")}}
                return _create(body, grant, "create_campaign", "find_campaign")
            case _:
                campaign = _kept(grant, "campaign")
                it = OPERATIONS["read_campaign" if grant.looking else "start_campaign"]
                return Request(it.method, it.at(campaign))

    def act(self, row: Row, about: Mapping[str, Any], grant: Go, client: Client) -> Acted:
        """Let the contacts go, and look how far they are."""
        del about
        child, load = child_of(grant.key), row["load"]
        it = client.ledger.release(child, _kept(grant, "list"), load["rows"])
        if it is None:
            return Acted(
                "failed",
                f"its contacts, job {child}, are not whole in the store: submit the file with "
                f"--again, or restore the store's data and replay this campaign",
            )
        if not it.finished:
            return Acted("not yet", _so_far(child, it), after_s=_again_s(it))
        if not it.succeeded or _missing(it) > row["may_fail"]:
            return Acted("failed", _short_of(child, it, row["may_fail"]))
        return Acted("done", kept=Kept(child))

    def sight(self, row: Row, grant: Go, answer: Answer) -> Sight:
        """What the step's look-up saw."""
        name = STEPS[grant.step - 1].name
        if name == "start":
            state = looking.pointed(answer.json(), "/campaignStatus") if _is_whole(answer) else None
            if state is None:  # a campaign that was made is there, even if reads do not show it yet
                return Sight.UNSURE
            return Sight.FOUND if state in STARTED else Sight.ABSENT
        made = row["list"] if name == "create_list" else row["campaign"]
        found = {**_FOUND, "equals": {"/name": name_of(made["name"], grant.key)}}
        return looking.sight(answer, {"found": found})

    def keep(self, row: Row, grant: Go, answer: Answer) -> Kept:
        """The ids of list and campaign."""
        del row
        name = STEPS[grant.step - 1].name
        if name == "start":
            return Kept()  # the campaign's id stays the row's
        body = looking.made(answer, _FOUND) if grant.looking else answer.json()
        made = id_in(body)
        what = "list" if name == "create_list" else "campaign"
        return Kept(made, json.dumps({what: made}) if made else "")


_FOUND: Final = {"at": "/entities/0"}


def _create(body: Mapping[str, Any], grant: Go, create: str, find: str) -> Request:
    name = name_of(body["name"], grant.key)
    if grant.looking:
        it = OPERATIONS[find]
        return Request(it.method, f"{it.at()}?name={quote(name, safe='')}&filterType=Equals")
    it = OPERATIONS[create]
    text = json.dumps({**body, "name": name}, ensure_ascii=False, separators=(",", ":"))
    return Request(it.method, it.at(), {"Content-Type": "application/json"}, text.encode())


def _kept(grant: Go, name: str) -> str:
    """The id that an earlier step left."""
    for answer in grant.answers:
        if name in answer:
            return str(answer[name])
    raise CannotSay(f"the answer of create_{name} held no id; look for it at the provider")


def _is_whole(answer: Answer) -> bool:
    return answer.status == 200 and not answer.error  # noqa: PLR2004


def _missing(it: Loading) -> int:
    """Good contacts that are not at the provider, in whatever state they ended."""
    return it.rows - it.rejected - it.succeeded


def _again_s(it: Loading) -> float:
    """When to look again: when all will have ended if it goes on as it went.

    A thousand contacts end with one call: before the first one there is no pace to go by.
    """
    done, left = it.ended - it.rejected, it.rows - it.ended
    after_s = it.elapsed_s * left / done if done else it.elapsed_s
    return min(LATEST_S, max(SOONEST_S, after_s))


def _so_far(child: str, it: Loading) -> str:
    return f"job {child} has ended {it.ended:,} of {it.rows:,} contacts"


def _short_of(child: str, it: Loading, may_fail: int) -> str:
    """Why a campaign does not go on with the contacts that it has, and what to do."""
    told = ", ".join(
        f"{count:,} {word}" for word, count in (("failed", it.failed), ("unknown", it.unknown))
        if count
    )  # fmt: skip
    loaded = f"job {child} loaded {it.succeeded:,} of {it.rows:,} contacts"
    bound = f", may_fail is {may_fail:,}" if _missing(it) > may_fail else ""
    return (
        f"{loaded}" + (f" ({told}{bound})" if told else "") + "; see `headgate dead list`, replay "
        "its contacts, then this campaign"
    )
