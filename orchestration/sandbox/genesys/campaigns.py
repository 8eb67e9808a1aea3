"""Campaigns: off when made, on once started, complete when everybody was called.

off, complete ─ start ─► on ─ stop ─► stopping ─ after stopping_s ─► off
                         └─ all contacts called ─► complete
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestration.sandbox.calls.call import Answer, ApiError, Operation, encode
from orchestration.sandbox.genesys.dialing import check_campaign
from orchestration.sandbox.genesys.entities import Entities, created_id, search
from orchestration.sandbox.genesys.routes import CAMPAIGNS

if TYPE_CHECKING:
    from orchestration.sandbox.calls.call import Call
    from orchestration.sandbox.config.config import Config
    from orchestration.sandbox.genesys.contacts import Contacts
    from orchestration.sandbox.genesys.entities import Entity


@dataclass(slots=True)
class _Run:
    """How far a campaign's dialling has come."""

    called: float = 0.0  # up to `since_us`
    since_us: int = 0
    off_us: int = 0  # when a stopping campaign is off


class Campaigns:
    """The campaigns, and the calls for them."""

    def __init__(self, lists: Entities, contacts: Contacts) -> None:
        self._lists = lists
        self._contacts = contacts
        self._campaigns = Entities(CAMPAIGNS)
        self._runs: dict[str, _Run] = {}

    def operation(self, call: Call, parts: list[str]) -> Operation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", []:
                return Operation(partial(self._create, call), lambda: (created_id(call),))
            case "GET", []:
                return Operation(partial(self._search, call), lambda: ("campaigns",), reads=True)
            case "POST", ["progress"]:
                return Operation(
                    partial(self._progress_of, call), lambda: ("campaigns",), reads=True
                )
            case _, [campaign_id, *verb]:
                return self._of_one(call, campaign_id, verb)
        return None

    def _of_one(self, call: Call, campaign_id: str, verb: list[str]) -> Operation | None:
        runs = {
            ("GET",): self._get,
            ("GET", "progress"): self._progress,
            ("PUT",): self._update,
            ("DELETE",): self._delete,
            ("POST", "start"): self._start,
            ("POST", "stop"): self._stop,
        }
        run = runs.get((call.method, *verb))
        if run is None:
            return None
        reads = call.method == "GET"
        return Operation(partial(run, call, campaign_id), lambda: (campaign_id,), reads=reads)

    def _create(self, call: Call, now_us: int) -> Answer:
        body = call.json_object()
        if call.config.strict_fields:
            check_campaign(body, self._lists)
        made = self._campaigns.make(call, {**body, "campaignStatus": "off"}, now_us)
        self._runs[made.shown["id"]] = _Run()
        return Answer(
            status=200, body=encode(made.shown), kind="effect", created=(created_id(call),)
        )

    def _search(self, call: Call, now_us: int) -> Answer:
        found = list(self._campaigns.all_seen(now_us))
        for campaign in found:
            self._move_on(campaign, call.config, now_us)
        return search(call, found)

    def _get(self, call: Call, campaign_id: str, now_us: int) -> Answer:
        found = self._campaigns.seen(campaign_id, now_us)
        self._move_on(found, call.config, now_us)
        return Answer(status=200, body=encode(found.shown), kind="read")

    def _update(self, call: Call, campaign_id: str, now_us: int) -> Answer:
        self._move_on(self._campaigns.known(campaign_id), call.config, now_us)
        before = self._campaigns.known(campaign_id).shown["campaignStatus"]
        if call.config.strict_fields:
            check_campaign(call.json_object(), self._lists)
        campaign = self._campaigns.update(call, campaign_id)
        wanted, campaign.shown["campaignStatus"] = campaign.shown.get("campaignStatus"), before
        if wanted == "on" != before:
            self._set_on(campaign, now_us)
        elif wanted == "off" and before == "on":
            self._set_stopping(campaign, call.config, now_us)
        shown = encode(campaign.shown)
        return Answer(status=200, body=shown, kind="effect", updated=(campaign_id,))

    def _delete(self, _call: Call, campaign_id: str, _now_us: int) -> Answer:
        self._campaigns.delete(campaign_id)
        return Answer(status=204, kind="effect", updated=(campaign_id,))

    def _start(self, call: Call, campaign_id: str, now_us: int) -> Answer:
        campaign, second = self._campaigns.known(campaign_id), call.config.second_start
        self._move_on(campaign, call.config, now_us)
        if campaign.shown["campaignStatus"] in {"on", "stopping"} and second != "harmless":
            raise ApiError(int(second), "campaign.running", "The campaign is running.")
        self._set_on(campaign, now_us)
        campaign.shown["version"] += 1
        shown = encode(campaign.shown)
        return Answer(status=200, body=shown, kind="effect", created=(campaign_id,))

    def _stop(self, call: Call, campaign_id: str, now_us: int) -> Answer:
        campaign = self._campaigns.known(campaign_id)
        self._move_on(campaign, call.config, now_us)
        if campaign.shown["campaignStatus"] != "on":
            shown = encode(campaign.shown)
            return Answer(status=200, body=shown, kind="repeat", repeated=(campaign_id,))
        self._set_stopping(campaign, call.config, now_us)
        campaign.shown["version"] += 1
        shown = encode(campaign.shown)
        return Answer(status=200, body=shown, kind="effect", created=(campaign_id,))

    def _set_on(self, campaign: Entity, now_us: int) -> None:
        if campaign.shown["campaignStatus"] != "on":
            self._runs[campaign.shown["id"]].since_us = now_us
        campaign.shown["campaignStatus"] = "on"

    def _set_stopping(self, campaign: Entity, config: Config, now_us: int) -> None:
        self._runs[campaign.shown["id"]].off_us = now_us + round(config.stopping_s * 1e6)
        campaign.shown["campaignStatus"] = "stopping"
        self._move_on(campaign, config, now_us)

    def _move_on(self, campaign: Entity, config: Config, now_us: int) -> None:
        """Let time have passed: a running campaign calls, a stopping one comes to its end."""
        shown, run = campaign.shown, self._runs[campaign.shown["id"]]
        if shown["campaignStatus"] == "on":
            total = self._total(shown)
            passed_s = (now_us - run.since_us) / 1e6
            run.called = min(total, run.called + passed_s * config.dials_per_s)
            run.since_us = now_us
            if config.dials_per_s and run.called == total > 0:
                shown["campaignStatus"] = "complete"
        elif shown["campaignStatus"] == "stopping" and now_us >= run.off_us:
            shown["campaignStatus"] = "off"

    def _total(self, shown: dict[str, Any]) -> int:
        contact_list = shown.get("contactList")
        named = contact_list.get("id") if isinstance(contact_list, dict) else None
        return self._contacts.total(str(named))

    def _progress(self, call: Call, campaign_id: str, now_us: int) -> Answer:
        told = self._told(call, campaign_id, now_us)
        return Answer(status=200, body=encode(told), kind="read")

    def _progress_of(self, call: Call, now_us: int) -> Answer:
        ids = call.json()
        if not isinstance(ids, list):
            raise ApiError(400, "bad.request", "Send an array of campaign ids.")
        told = [self._told(call, str(campaign_id), now_us) for campaign_id in ids]
        return Answer(status=200, body=encode(told), kind="read")

    def _told(self, call: Call, campaign_id: str, now_us: int) -> dict[str, Any]:
        campaign = self._campaigns.seen(campaign_id, now_us)
        self._move_on(campaign, call.config, now_us)
        called, total = int(self._runs[campaign_id].called), self._total(campaign.shown)
        return {
            "campaign": {"id": campaign_id},
            "contactList": campaign.shown.get("contactList"),
            "numberOfContactsCalled": called,
            "totalNumberOfContacts": total,
            "percentage": 100 * called // total if total else 0,
        }
