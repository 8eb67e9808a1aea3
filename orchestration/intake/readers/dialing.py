"""What a campaign of Genesys Cloud must say, by the mode in which it dials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.rows import Bad, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Set by Headgate, or by the platform, and so in no definition.
OURS: Final = ("id", "version", "selfUri", "contactList", "campaignStatus")
#: Other things of the platform, as `{"id": "…"}`.
_NAMED: Final = ("queue", "script", "edgeGroup", "site", "callAnalysisResponseSet")
_AGENTS: Final = ("queue", "script")
_ANALYSED: Final = ("callAnalysisResponseSet",)
#: Mode → what it needs beside a name, a caller, and the columns that hold numbers.
MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "agentless": (*_ANALYSED, "outboundLineCount"),
    "preview": _AGENTS,
    "power": (*_AGENTS, *_ANALYSED, "abandonRate"),
    "predictive": (*_AGENTS, *_ANALYSED, "abandonRate"),
    "progressive": (*_AGENTS, *_ANALYSED),
    "external": (*_AGENTS, *_ANALYSED),
}
#: In these modes an edge group or a site places the calls.
_PLACED: Final = frozenset(MODES) - {"preview"}
#: Longest name, characters; a tag of eleven more comes behind it.
MAX_NAME: Final = 200


def read_campaign(given: Any) -> dict[str, Any]:  # noqa: ANN401 -- any JSON value
    """The campaign of a definition, checked but for its columns; raises `Bad`."""
    campaign = an_object(given, "campaign")
    for name in ("name", "callerName", "callerAddress"):
        text_of(campaign, name, "campaign, ")
    mode = campaign.get("dialingMode")
    if not isinstance(mode, str) or mode not in MODES:
        raise Bad(f"campaign, dialingMode: must be one of {', '.join(MODES)}")
    for name in _NAMED:
        if (it := campaign.get(name)) is not None and not _is_reference(it):
            raise Bad(f'campaign, {name}: must be {{"id": "…"}}, the id of one at the provider')
    missing = [name for name in MODES[mode] if campaign.get(name) is None]
    if mode in _PLACED and not (campaign.get("edgeGroup") or campaign.get("site")):
        missing.append("edgeGroup or site")
    if missing:
        raise Bad(f"campaign, {missing[0]}: is needed for dialingMode {mode}; add it")
    lines, rate = campaign.get("outboundLineCount"), campaign.get("abandonRate")
    if lines is not None and (type(lines) is not int or lines < 1):
        raise Bad("campaign, outboundLineCount: must be a whole number above 0")
    if rate is not None and (type(rate) not in (int, float) or rate < 0):
        raise Bad("campaign, abandonRate: must be a number, 0 or above")
    return campaign


def an_object(given: Any, place: str) -> dict[str, Any]:  # noqa: ANN401 -- any JSON value
    """A JSON object of the user's fields, without those that Headgate sets; raises `Bad`."""
    if not isinstance(given, dict):
        raise Bad(f"{place}: must be a JSON object")
    for name in OURS:
        if name in given:
            raise Bad(f"{place}, {name}: is set by Headgate or the provider; leave it out")
    return dict(given)


def text_of(given: Mapping[str, Any], name: str, place: str) -> str:
    """A text that people read: not empty, on one line; raises `Bad`."""
    text = given.get(name)
    if not (isinstance(text, str) and text.strip() and text.isprintable()):
        raise Bad(f"{place}{name}: must be text on one line, not empty")
    if len(text) > MAX_NAME:
        raise Bad(f"{place}{name}: is longer than {MAX_NAME} characters")
    return text


def read_phone_columns(given: Any, place: str, columns: list[str], file: str) -> list[Any]:  # noqa: ANN401
    """The columns that hold numbers, which must be there; raises `Bad`."""
    place = f"{place}phoneColumns"
    if not isinstance(given, list) or not given:
        raise Bad(f'{place}: must be a list such as [{{"columnName": "phone", "type": "cell"}}]')
    for it in given:
        if not isinstance(it, dict):
            raise Bad(
                f'{place}: must be a list such as [{{"columnName": "phone", "type": "cell"}}]'
            )
        text_of(it, "type", f"{place}, ")
        name = text_of(it, "columnName", f"{place}, ")
        if name not in columns:
            there = ", ".join(shown(column) for column in columns[:20])
            raise Bad(f"{place}: {file} has no column {shown(name)}; there are {there}")
    return given


def _is_reference(given: Any) -> bool:  # noqa: ANN401 -- any JSON value
    return isinstance(given, dict) and isinstance(given.get("id"), str) and bool(given["id"])
