"""Campaigns that were made: how far they are at the provider, and how they are stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
#: States in which a campaign calls nobody any more, and in which it soon will not.
OFF: Final = frozenset(("off", "complete", "invalid", "forced_off"))
STOPPING: Final = frozenset(("stopping", "forced_stopping"))
_FORBIDDEN, _NOT_FOUND = 403, 404


@dataclass(frozen=True, slots=True)
class Made:
    """A row of a job of campaigns, and what it has made at the provider."""

    line: int
    row: str
    state: str  #: of the row, as in the report
    campaign: str | None  #: the provider's id; None: there is none yet


@dataclass(frozen=True, slots=True)
class Dialled:
    """How far a campaign is."""

    row: str
    campaign: str | None  #: None: it is not made yet
    called: int | None = None  #: contacts; None: the provider did not say
    contacts: int | None = None
    percentage: int | None = None

    @property
    def words(self) -> str:
        """For people."""
        if self.campaign is None:
            return "not made yet"
        if self.called is None or self.contacts is None:
            return "the provider does not know it, or not yet"
        return f"{self.called:,} of {self.contacts:,} contacts called, {self.percentage or 0} %"

    def as_dict(self) -> dict[str, Any]:
        """As programs get it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What an order to stop a campaign came to."""

    row: str
    campaign: str | None
    stopped: bool  #: it calls nobody, or soon will not
    words: str  #: for people

    def as_dict(self) -> dict[str, Any]:
        """As programs get it."""
        return asdict(self)


def made_by(client: Client, job: str, row: str = "") -> list[Made]:
    """The campaigns of a job, or that of one row.

    Raises:
        UsageError: it is no job of campaigns, or has no such row.
    """
    if find_kind(client.ledger.job_params(job).kind).contacts is None:
        raise UsageError(f"{job} is no job of campaigns; `headgate jobs` shows the kind of each")
    found = []
    for line in report(client, job):
        if line.id is None or line.key is None or (row and line.id != row):
            continue
        ids = [it.id for it in line.done or () if it.step == "create_campaign"]
        found.append(Made(line.line, line.id, line.state, ids[0] if ids else None))
    if row and not found:
        raise UsageError(f"{job} has no good row {row}; `headgate report {job}` shows all")
    return found


def progress_of(session: GovernedSession, made: Sequence[Made]) -> Iterator[Dialled]:
    """How far each campaign is, in the order given; `AT_ONCE` of them a call.

    Raises:
        HeadgateError: the provider does not say; and as `GovernedSession.request`.
    """
    known: dict[str, dict[str, Any]] = {}
    ids = [it.campaign for it in made if it.campaign]
    for start in range(0, len(ids), AT_ONCE):
        for one in _told(session, ids[start : start + AT_ONCE]):
            known[str((one.get("campaign") or {}).get("id"))] = one
    for it in made:
        told = known.get(it.campaign or "", {})
        yield Dialled(
            it.row,
            it.campaign,
            told.get("numberOfContactsCalled"),
            told.get("totalNumberOfContacts"),
            told.get("percentage"),
        )


def _told(session: GovernedSession, ids: list[str]) -> list[dict[str, Any]]:
    """What the provider says of these; one that is gone spoils the answer for all, not for long."""
    response = _ask(session, "progress_of_campaigns", json=ids)
    if response.status_code == _NOT_FOUND and len(ids) > 1:
        half = len(ids) // 2
        return _told(session, ids[:half]) + _told(session, ids[half:])
    if response.status_code == _NOT_FOUND:
        return []
    found = _read(response, "progress_of_campaigns")
    return [it for it in found if isinstance(it, dict)] if isinstance(found, list) else []


def stop(session: GovernedSession, it: Made) -> Stopped:
    """Stop one campaign, unless it is off. The state is looked at before, and after a doubt.

    Raises:
        HeadgateError: as `GovernedSession.request`.
    """
    goes_on = it.state not in FINAL
    if it.campaign is None:
        words = f"not made yet: its row is {it.state}, and goes on"
        if it.state == "failed":
            words = "was not started: its row has failed"
        elif not goes_on:
            words = f"its row has ended {it.state}; look for it at the provider"
        return Stopped(it.row, None, it.state == "failed", words)
    try:
        before = _state(session, it.campaign)
        if before == "off" and goes_on:  # its start is still to come, or under way
            words = f"off, but its row is {it.state}, and starts it; stop it again then"
            return Stopped(it.row, it.campaign, stopped=False, words=words)
        if before in OFF or before in STOPPING:
            return Stopped(it.row, it.campaign, stopped=True, words=f"already {before}")
        return _stopped(session, it)
    except (requests.RequestException, HeadgateError) as error:
        return Stopped(it.row, it.campaign, stopped=False, words=f"could not be stopped: {error}")


def _stopped(session: GovernedSession, it: Made) -> Stopped:
    try:
        _read(_ask(session, "stop_campaign", str(it.campaign)), "stop_campaign")
    except (requests.RequestException, HeadgateError):
        after = _state(session, str(it.campaign))
        if after not in OFF and after not in STOPPING:
            raise
        return Stopped(it.row, it.campaign, stopped=True, words=after)
    return Stopped(it.row, it.campaign, stopped=True, words="stopping")


def _state(session: GovernedSession, campaign: str) -> str:
    found = _read(_ask(session, "read_campaign", campaign), "read_campaign")
    return str(found.get("campaignStatus")) if isinstance(found, dict) else "unknown"


def _ask(session: GovernedSession, name: str, *ids: str, **body: Any) -> requests.Response:  # noqa: ANN401
    it = OPERATIONS[name]
    response: requests.Response = session.request(it.method, it.at(*ids), **body)
    return response


def _read(response: requests.Response, name: str) -> Any:  # noqa: ANN401 -- any JSON value
    status = response.status_code
    if status == _FORBIDDEN:
        raise HeadgateError(
            f"the provider answered 403: grant the OAuth client {OPERATIONS[name].permission}"
        )
    if not response.ok:
        gone = ", the campaign is not there" if status == _NOT_FOUND else ""
        raise HeadgateError(f"the provider answered {status}{gone}")
    try:
        return response.json() if response.content else None
    except ValueError:
        return None
