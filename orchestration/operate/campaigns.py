"""Campaigns at the provider: how far each of them is, and how to stop it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import requests

from orchestration.kinds.registry import find_kind
from orchestration.views.report import report
from tasks.genesys.operations import OPERATIONS
from workers.errors import HeadgateError, UsageError
from workers.ledger.transaction import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workers.clients import Client
    from workers.session.session import GovernedSession

#: Campaigns that one call asks for.
AT_ONCE: Final = 50
#: States in which a campaign calls nobody any more, and states in which it soon will not.
_OFF: Final = frozenset(("off", "complete", "invalid", "forced_off"))
_STOPPING: Final = frozenset(("stopping", "forced_stopping"))


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """A row of a job of campaigns, and the campaign that it has made."""

    line: int
    row: str
    state: str  #: of the row, as in the report
    campaign: str | None  #: the provider's id; None: the row has made none yet


@dataclass(frozen=True, slots=True)
class CampaignProgress:
    """How far a campaign is at the provider."""

    row: str
    campaign: str | None  #: None: it is not made yet
    called: int | None = None  #: contacts; None: the provider did not say
    contacts: int | None = None
    percentage: int | None = None

    @property
    def words(self) -> str:
        """The progress for people."""
        if self.campaign is None:
            return "not made yet"
        if self.called is None or self.contacts is None:
            return "the provider does not know it, or not yet"
        return f"{self.called:,} of {self.contacts:,} contacts called, {self.percentage or 0} %"

    def as_dict(self) -> dict[str, Any]:
        """The progress for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CampaignStop:
    """The result of an order to stop a campaign."""

    row: str
    campaign: str | None
    stopped: bool  #: it calls nobody, or soon will not
    words: str  #: the result for people

    def as_dict(self) -> dict[str, Any]:
        """The result for programs."""
        return asdict(self)


def campaigns_of(client: Client, job: str, row: str = "") -> list[CampaignRow]:
    """The campaigns of a job, or that of one row.

    Raises:
        UsageError: the job is none of campaigns, or has no such row.
    """
    if find_kind(client.ledger.job_params(job).kind).contacts is None:
        raise UsageError(f"{job} is no job of campaigns; `headgate jobs` shows the kind of each")
    rows = []
    for line in report(client, job):
        if line.id is None or line.key is None or (row and line.id != row):
            continue
        ids = [done.id for done in line.done or () if done.step == "create_campaign"]
        rows.append(CampaignRow(line.line, line.id, line.state, ids[0] if ids else None))
    if row and not rows:
        raise UsageError(f"{job} has no good row {row}; `headgate report {job}` shows all")
    return rows


def read_progress(
    session: GovernedSession, campaigns: Sequence[CampaignRow]
) -> Iterator[CampaignProgress]:
    """How far each campaign is, in the order given; one call asks for `AT_ONCE` of them.

    Raises:
        HeadgateError: the provider does not say; and as `GovernedSession.request`.
    """
    known: dict[str, dict[str, Any]] = {}
    ids = [campaign.campaign for campaign in campaigns if campaign.campaign]
    for start in range(0, len(ids), AT_ONCE):
        for answer in _read_progress_of(session, ids[start : start + AT_ONCE]):
            known[str((answer.get("campaign") or {}).get("id"))] = answer
    for campaign in campaigns:
        answer = known.get(campaign.campaign or "", {})
        yield CampaignProgress(
            campaign.row,
            campaign.campaign,
            answer.get("numberOfContactsCalled"),
            answer.get("totalNumberOfContacts"),
            answer.get("percentage"),
        )


def _read_progress_of(session: GovernedSession, ids: list[str]) -> list[dict[str, Any]]:
    """The provider's answer on these campaigns.

    The provider answers 404 to the whole call when one of them is gone, so the ids are then asked
    for in halves.
    """
    response = _ask(session, "progress_of_campaigns", json=ids)
    if response.status_code == HTTPStatus.NOT_FOUND:
        if len(ids) == 1:
            return []
        half = len(ids) // 2
        return _read_progress_of(session, ids[:half]) + _read_progress_of(session, ids[half:])
    answers = _read(response, "progress_of_campaigns")
    if not isinstance(answers, list):
        return []
    return [answer for answer in answers if isinstance(answer, dict)]


def stop_campaign(session: GovernedSession, campaign: CampaignRow) -> CampaignStop:
    """Stop one campaign, unless it is off.

    Its state is looked at first, and once more when the answer leaves it open whether it stopped.

    Raises:
        HeadgateError: as `GovernedSession.request`.
    """
    goes_on = campaign.state not in FINAL
    if campaign.campaign is None:
        words = f"not made yet: its row is {campaign.state}, and goes on"
        if campaign.state == "failed":
            words = "was not started: its row has failed"
        elif not goes_on:
            words = f"its row has ended {campaign.state}; look for it at the provider"
        return CampaignStop(campaign.row, None, campaign.state == "failed", words)
    try:
        before = _read_state(session, campaign.campaign)
        if before == "off" and goes_on:  # its start is still to come, or under way
            stopped = False
            words = f"off, but its row is {campaign.state}, and starts it; stop it again then"
        elif before in _OFF or before in _STOPPING:
            stopped, words = True, f"already {before}"
        else:
            stopped, words = True, _stop(session, campaign.campaign)
    except (requests.RequestException, HeadgateError) as error:
        stopped, words = False, f"could not be stopped: {error}"
    return CampaignStop(campaign.row, campaign.campaign, stopped, words)


def _stop(session: GovernedSession, campaign: str) -> str:
    """Stop a campaign that is on; returns its state."""
    try:
        _read(_ask(session, "stop_campaign", campaign), "stop_campaign")
    except (requests.RequestException, HeadgateError):
        after = _read_state(session, campaign)
        if after not in _OFF and after not in _STOPPING:
            raise
        return after
    return "stopping"


def _read_state(session: GovernedSession, campaign: str) -> str:
    answer = _read(_ask(session, "read_campaign", campaign), "read_campaign")
    return str(answer.get("campaignStatus")) if isinstance(answer, dict) else "unknown"


def _ask(
    session: GovernedSession, name: str, *ids: str, json: list[str] | None = None
) -> requests.Response:
    operation = OPERATIONS[name]
    body = {} if json is None else {"json": json}
    response: requests.Response = session.request(operation.method, operation.at(*ids), **body)
    return response


def _read(response: requests.Response, name: str) -> object:
    """The answer's JSON value; None when it holds none.

    Raises:
        HeadgateError: the provider refused; the text says what to do.
    """
    status = response.status_code
    if status == HTTPStatus.FORBIDDEN:
        raise HeadgateError(
            f"the provider answered 403: grant the OAuth client {OPERATIONS[name].permission}"
        )
    if not response.ok:
        gone = ", the campaign is not there" if status == HTTPStatus.NOT_FOUND else ""
        raise HeadgateError(f"the provider answered {status}{gone}")
    try:
        value: object = response.json() if response.content else None
    except ValueError:
        return None
    return value
