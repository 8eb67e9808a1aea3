"""Campaigns: off when created, on once started, complete when every contact was called.

off, complete ─ start ─► on ─ stop ─► stopping ─ after stopping_s ─► off
                         └─ all contacts called ─► complete
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiError, ApiOperation, Reply, bad_request, encode_json
from orchestration.sandbox.genesys.dialing import check_campaign
from orchestration.sandbox.genesys.entities import Entities, new_business_id, search_by_name
from orchestration.sandbox.genesys.routes import CAMPAIGNS_PATH

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import Config, JsonObject
    from orchestration.sandbox.genesys.contacts import ContactsApi
    from orchestration.sandbox.genesys.entities import Entity


@dataclass(slots=True)
class _Dialling:
    """How far a campaign's dialling has come."""

    called: float = 0.0  # up to `since_us`
    since_us: int = 0
    off_us: int = 0  # when a stopping campaign is off


class CampaignsApi:
    """The campaigns, and the calls for them."""

    def __init__(self, lists: Entities, contacts: ContactsApi) -> None:
        self._lists = lists
        self._contacts = contacts
        self._campaigns = Entities(CAMPAIGNS_PATH)
        self._dialling: dict[str, _Dialling] = {}

    def operation(self, call: Call, parts: list[str]) -> ApiOperation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", []:
                return ApiOperation(partial(self._create, call), lambda: (new_business_id(call),))
            case "GET", []:
                return ApiOperation(partial(self._search, call), lambda: ("campaigns",), reads=True)
            case "POST", ["progress"]:
                return ApiOperation(
                    partial(self._progress_of_several, call), lambda: ("campaigns",), reads=True
                )
            case _, [campaign_id, *verb]:
                return self._operation_on_one(call, campaign_id, verb)
        return None

    def _operation_on_one(
        self, call: Call, campaign_id: str, verb: list[str]
    ) -> ApiOperation | None:
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
        return ApiOperation(partial(run, call, campaign_id), lambda: (campaign_id,), reads=reads)

    def _create(self, call: Call, now_us: int) -> Reply:
        body = call.json_object()
        if call.config.strict_fields:
            check_campaign(body, self._lists)
        created = self._campaigns.create(call, {**body, "campaignStatus": "off"}, now_us)
        self._dialling[created.shown["id"]] = _Dialling()
        return Reply(
            status=200,
            body=encode_json(created.shown),
            kind="effect",
            created=(new_business_id(call),),
        )

    def _search(self, call: Call, now_us: int) -> Reply:
        campaigns = list(self._campaigns.read_all(now_us))
        for campaign in campaigns:
            self._let_time_pass(campaign, call.config, now_us)
        return search_by_name(call, campaigns)

    def _get(self, call: Call, campaign_id: str, now_us: int) -> Reply:
        campaign = self._campaigns.read(campaign_id, now_us)
        self._let_time_pass(campaign, call.config, now_us)
        return Reply(status=200, body=encode_json(campaign.shown), kind="read")

    def _update(self, call: Call, campaign_id: str, now_us: int) -> Reply:
        self._let_time_pass(self._campaigns.get(campaign_id), call.config, now_us)
        before = self._campaigns.get(campaign_id).shown["campaignStatus"]
        if call.config.strict_fields:
            check_campaign(call.json_object(), self._lists)
        campaign = self._campaigns.update(call, campaign_id)
        ordered = campaign.shown.get("campaignStatus")
        campaign.shown["campaignStatus"] = before
        if ordered == "on" != before:
            self._set_on(campaign, now_us)
        elif ordered == "off" and before == "on":
            self._set_stopping(campaign, call.config, now_us)
        shown = encode_json(campaign.shown)
        return Reply(status=200, body=shown, kind="effect", updated=(campaign_id,))

    def _delete(self, _call: Call, campaign_id: str, _now_us: int) -> Reply:
        self._campaigns.delete(campaign_id)
        return Reply(status=204, kind="effect", updated=(campaign_id,))

    def _start(self, call: Call, campaign_id: str, now_us: int) -> Reply:
        campaign, second = self._campaigns.get(campaign_id), call.config.second_start
        self._let_time_pass(campaign, call.config, now_us)
        if campaign.shown["campaignStatus"] in {"on", "stopping"} and second != "harmless":
            raise ApiError(int(second), "campaign.running", "The campaign is running.")
        self._set_on(campaign, now_us)
        campaign.shown["version"] += 1
        shown = encode_json(campaign.shown)
        return Reply(status=200, body=shown, kind="effect", created=(campaign_id,))

    def _stop(self, call: Call, campaign_id: str, now_us: int) -> Reply:
        campaign = self._campaigns.get(campaign_id)
        self._let_time_pass(campaign, call.config, now_us)
        if campaign.shown["campaignStatus"] != "on":
            shown = encode_json(campaign.shown)
            return Reply(status=200, body=shown, kind="repeat", repeated=(campaign_id,))
        self._set_stopping(campaign, call.config, now_us)
        campaign.shown["version"] += 1
        shown = encode_json(campaign.shown)
        return Reply(status=200, body=shown, kind="effect", created=(campaign_id,))

    def _set_on(self, campaign: Entity, now_us: int) -> None:
        if campaign.shown["campaignStatus"] != "on":
            self._dialling[campaign.shown["id"]].since_us = now_us
        campaign.shown["campaignStatus"] = "on"

    def _set_stopping(self, campaign: Entity, config: Config, now_us: int) -> None:
        self._dialling[campaign.shown["id"]].off_us = now_us + round(config.stopping_s * 1e6)
        campaign.shown["campaignStatus"] = "stopping"
        self._let_time_pass(campaign, config, now_us)

    def _let_time_pass(self, campaign: Entity, config: Config, now_us: int) -> None:
        """Bring a campaign up to now: a running one calls contacts, a stopping one becomes off."""
        shown, dialling = campaign.shown, self._dialling[campaign.shown["id"]]
        if shown["campaignStatus"] == "on":
            total = self._count_contacts(shown)
            passed_s = (now_us - dialling.since_us) / 1e6
            dialling.called = min(total, dialling.called + passed_s * config.dials_per_s)
            dialling.since_us = now_us
            if config.dials_per_s and dialling.called == total > 0:
                shown["campaignStatus"] = "complete"
        elif shown["campaignStatus"] == "stopping" and now_us >= dialling.off_us:
            shown["campaignStatus"] = "off"

    def _count_contacts(self, shown: JsonObject) -> int:
        contact_list = shown.get("contactList")
        list_id = contact_list.get("id") if isinstance(contact_list, dict) else None
        return self._contacts.total(str(list_id))

    def _progress(self, call: Call, campaign_id: str, now_us: int) -> Reply:
        progress = self._measure_progress(call, campaign_id, now_us)
        return Reply(status=200, body=encode_json(progress), kind="read")

    def _progress_of_several(self, call: Call, now_us: int) -> Reply:
        ids = call.json()
        if not isinstance(ids, list):
            raise bad_request("Send an array of campaign ids.")
        progress = [self._measure_progress(call, str(campaign_id), now_us) for campaign_id in ids]
        return Reply(status=200, body=encode_json(progress), kind="read")

    def _measure_progress(self, call: Call, campaign_id: str, now_us: int) -> JsonObject:
        campaign = self._campaigns.read(campaign_id, now_us)
        self._let_time_pass(campaign, call.config, now_us)
        called, total = (
            int(self._dialling[campaign_id].called),
            self._count_contacts(campaign.shown),
        )
        return {
            "campaign": {"id": campaign_id},
            "contactList": campaign.shown.get("contactList"),
            "numberOfContactsCalled": called,
            "totalNumberOfContacts": total,
            "percentage": 100 * called // total if total else 0,
        }
