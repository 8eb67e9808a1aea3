"""Steps of kind `campaigns`: a campaign of Genesys Cloud with its contacts, from list to start.

    create_list ─► load ─► create_campaign ─► start

`load` makes no call: the contacts are a job of their own, which was submitted with the campaign and
waits. The step starts that job, now that its list has an id, and then looks from time to time
whether it has ended.

List and campaign carry the first digits of the transaction's key in their names. So a look-up by
name finds this transaction's work and nobody else's.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tasks.genesys.operations import OPERATIONS, pick
from tasks.kind import CannotSay, LocalResult, StepKind, StepPlan, StepResult
from tasks.rest import conditions
from tasks.rest.calls import id_in
from workers.answer.guards import Guard, LookupResult
from workers.http.connection import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.answer.outcome import Answer
    from workers.clients import Client
    from workers.governor.grants import Grant
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import LoadProgress, Row
    from workers.settings.client import ClientSettings

#: Between two looks at the contacts, seconds.
SOONEST_S, LATEST_S = 0.5, 10.0
#: Hexadecimal digits of a key in the names that are made, and in the name of a job of contacts.
TAG, CHILD = 8, 12
#: States of a campaign that was started, whatever was done to it since.
STARTED: Final = frozenset(("on", "complete", "stopping", "forced_stopping", "forced_off"))
LOAD: Final = "load"


def _planned(name: str, operation: str, lookup: str) -> StepPlan:
    known = OPERATIONS[operation]
    return StepPlan(known.route, known.guard, OPERATIONS[lookup].route, name=name)


#: The steps of a row; the last one is left out where nobody wants a start.
STEPS: Final = (
    _planned("create_list", "create_list", "find_list"),
    StepPlan("", Guard.READ, name=LOAD, local=True),
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
    local_task = "genesys.load"
    #: Its contacts have their own; the last three are those of `headgate campaign`.
    operations = pick(
        "create_list",
        "find_list",
        "create_campaign",
        "find_campaign",
        "start_campaign",
        "read_campaign",
        "stop_campaign",
        "progress_of_campaigns",
        "progress_of_campaign",
    )

    def plan(self, row: Row, params: JobParams, client: ClientSettings) -> Sequence[StepPlan]:
        """Up to the start, or to the campaign that somebody else will start."""
        del row, client
        return STEPS if params.start else STEPS[:-1]

    def request(self, row: Row, params: JobParams, grant: Grant) -> Request:
        """The step's call, or its look-up."""
        del params
        match STEPS[grant.step - 1].name:
            case "create_list":
                return _create(row["list"], grant, "create_list", "find_list")
            case "create_campaign":
                body = {**row["campaign"], "contactList": {"id": _kept(grant, "list")}}
                return _create(body, grant, "create_campaign", "find_campaign")
            case _:
                campaign = _kept(grant, "campaign")
                operation = OPERATIONS["read_campaign" if grant.looking else "start_campaign"]
                return Request(operation.method, operation.at(campaign))

    def run_local(self, row: Row, params: JobParams, grant: Grant, client: Client) -> LocalResult:
        """Let the contacts go, and look how far they are."""
        del params
        child, load = child_of(grant.key), row["load"]
        progress = client.ledger.start_load(child, _kept(grant, "list"), load["rows"])
        if progress is None:
            return LocalResult(
                "failed",
                f"its contacts, job {child}, are not whole in the store: submit the file with "
                f"--again, or restore the store's data and replay this campaign",
            )
        if not progress.finished:
            return LocalResult("not yet", _so_far(child, progress), after_s=_again_s(progress))
        if not progress.succeeded or _missing(progress) > row["may_fail"]:
            return LocalResult("failed", _short_of(child, progress, row["may_fail"]))
        return LocalResult("done", kept=StepResult(child))

    def read_lookup(self, row: Row, grant: Grant, answer: Answer) -> LookupResult:
        """What the step's look-up saw."""
        name = STEPS[grant.step - 1].name
        if name == "start":
            state = (
                conditions.follow_pointer(answer.json(), "/campaignStatus")
                if _is_whole(answer)
                else None
            )
            if state is None:  # a campaign that was made is there, even if reads do not show it yet
                return LookupResult.UNSURE
            return LookupResult.FOUND if state in STARTED else LookupResult.ABSENT
        definition = row["list"] if name == "create_list" else row["campaign"]
        condition = {**_FIRST, "equals": {"/name": name_of(definition["name"], grant.key)}}
        return conditions.read_lookup(answer, {"found": condition})

    def keep(self, row: Row, grant: Grant, answer: Answer) -> StepResult:
        """The ids of list and campaign."""
        del row
        name = STEPS[grant.step - 1].name
        if name == "start":
            return StepResult()  # the campaign's id stays the row's
        body = conditions.find_value(answer, _FIRST) if grant.looking else answer.json()
        provider_id = id_in(body)
        what = "list" if name == "create_list" else "campaign"
        return StepResult(provider_id, json.dumps({what: provider_id}) if provider_id else "")


#: A search has found something: its first result.
_FIRST: Final = {"at": "/entities/0"}


def _create(body: Mapping[str, Any], grant: Grant, create: str, find: str) -> Request:
    name = name_of(body["name"], grant.key)
    if grant.looking:
        search = OPERATIONS[find]
        query = f"name={quote(name, safe='')}&filterType=Equals"
        return Request(search.method, f"{search.at()}?{query}")
    operation = OPERATIONS[create]
    text = json.dumps({**body, "name": name}, ensure_ascii=False, separators=(",", ":"))
    headers = {"Content-Type": "application/json"}
    return Request(operation.method, operation.at(), headers, text.encode())


def _kept(grant: Grant, name: str) -> str:
    """The id that an earlier step left."""
    values = grant.values
    if name in values:
        return str(values[name])
    raise CannotSay(f"the answer of create_{name} held no id; look for it at the provider")


def _is_whole(answer: Answer) -> bool:
    return answer.status == HTTPStatus.OK and not answer.error


def _missing(load: LoadProgress) -> int:
    """Good contacts that are not at the provider, in whatever state they ended."""
    return load.rows - load.rejected - load.succeeded


def _again_s(load: LoadProgress) -> float:
    """When to look again: when all will have ended if it goes on as it went.

    A thousand contacts end with one call: before the first one there is no pace to go by.
    """
    done, left = load.ended - load.rejected, load.rows - load.ended
    after_s = load.elapsed_s * left / done if done else load.elapsed_s
    return min(LATEST_S, max(SOONEST_S, after_s))


def _so_far(child: str, load: LoadProgress) -> str:
    return f"job {child} has ended {load.ended:,} of {load.rows:,} contacts"


def _short_of(child: str, load: LoadProgress, may_fail: int) -> str:
    """Why a campaign does not go on with the contacts that it has, and what to do."""
    short = ", ".join(
        f"{count:,} {word}" for word, count in (("failed", load.failed), ("unknown", load.unknown))
        if count
    )  # fmt: skip
    loaded = f"job {child} loaded {load.succeeded:,} of {load.rows:,} contacts"
    bound = f", may_fail is {may_fail:,}" if _missing(load) > may_fail else ""
    return (
        f"{loaded}"
        + (f" ({short}{bound})" if short else "")
        + "; see `headgate dead list`, replay "
        "its contacts, then this campaign"
    )
