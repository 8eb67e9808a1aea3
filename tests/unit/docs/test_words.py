"""The docs define each word once, use no retired one, and name every setting with its default."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import PydanticUndefined

from tests.unit.docs.test_links import DOCS, PAGES, ROOT
from workers.settings.breaker import BreakerSettings
from workers.settings.client import ClientSettings, TenantSettings
from workers.settings.limits import LimitSettings
from workers.settings.load import FlowerSettings, StoreSettings, WorkerSettings
from workers.settings.notify import NotifySettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.settings.values import Model

SETTINGS = (ROOT / "docs/reference/settings.md").read_text("utf-8")
GLOSSARY = (ROOT / "docs/glossary.md").read_text("utf-8")
#: Section of the page of settings, and the model whose fields it has.
SECTIONS: dict[str, type[Model]] = {
    "[store]": StoreSettings,
    "[worker]": WorkerSettings,
    "[flower]": FlowerSettings,
    "[notify]": NotifySettings,
    "[clients.NAME]": ClientSettings,
    "Limits": LimitSettings,
    "Breaker": BreakerSettings,
    "Tenants": TenantSettings,
}
#: Parts of a client with sections of their own, whose keys are checked by name alone.
APART = re.compile(r"## (?:Authentication|Proxies and certificates)\n(.*?)(?=\n## |\Z)", re.DOTALL)
#: Words that had another meaning here than elsewhere, and are gone.
RETIRED = re.compile(
    r"\b(pacer|suspects?|hungry|beat_s|line_after_s|give_?back|NoGo|ToSplit|HEADGATE_BOUNDARY\w*"
    r"|waits? in (?:its|the) line|back to (?:its|the) line|boundar(?:y|ies))\b"
)


def test_each_word_of_the_glossary_is_there_once_in_order_and_has_one_sentence_or_two() -> None:
    entries = re.findall(r"^- \*\*(.+?)\*\*: (.+(?:\n  .+)*)$", GLOSSARY, re.MULTILINE)
    words = [word for word, _ in entries]

    assert [word for word, count in Counter(words).items() if count > 1] == []
    assert words == sorted(words, key=lambda word: word.removeprefix("the ").lower())
    assert all(text.endswith(".") for _, text in entries)
    assert len(words) > 25


@pytest.mark.parametrize("page", [*DOCS, *PAGES[:1]], ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_uses_a_retired_word(page: Path) -> None:
    if page.name in {"guard-proof.md", "commands.md"}:
        pytest.skip("written by code, whose words have a test of their own")

    assert RETIRED.findall(page.read_text("utf-8")) == []


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_of_settings_has_every_field_with_its_default(section: str) -> None:
    told = dict(_told(section))
    apart = "".join(APART.findall(SETTINGS))
    for name, field in SECTIONS[section].model_fields.items():
        if name not in told:
            assert section == "[clients.NAME]", f"{section} lacks {name}"
            assert name == "name" or f"`{name}`" in apart, f"no section of a client has {name}"
            continue
        default = _plain(field.default)
        assert default in {None, told[name]}, f"{name}: {told[name]} instead of {default}"


def _told(section: str) -> Iterator[tuple[str, str]]:
    """Each name of a section's table, and the default that stands beside it."""
    body = re.split(r"^#{2,3} ", SETTINGS.split(f" {section}\n")[1], maxsplit=1, flags=re.MULTILINE)
    for names, default in re.findall(r"^\| (`.+?) \|(.*?)\| ", body[0], re.MULTILINE):
        given, one = re.findall(r"`(\w+)`", names), default.strip()
        values = [one] if len(given) == 1 else one.split(", ")
        if len(values) < len(given):
            values = [one] * len(given)
        yield from zip(given, (value.strip("`") for value in values), strict=True)


def _plain(value: Any) -> str | None:
    """A default as the page writes it; None where words stand there."""
    if value is None or value is PydanticUndefined or value == ():
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
