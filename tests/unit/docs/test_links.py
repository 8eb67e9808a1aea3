"""What the docs lead to is there: files, headings in them, and pages that are named in code."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`[^`]*`")
LINK = re.compile(r"\]\(([^)\s]*)\)")
ELSEWHERE = re.compile(r"[a-z]+:")
NAMED = re.compile(r"\bdocs/[\w-]+\.md\b")


def _links(page: Path) -> Iterator[str]:
    text = SPAN.sub("", FENCE.sub("", page.read_text("utf-8")))
    return (it for it in LINK.findall(text) if not ELSEWHERE.match(it))


def _anchors(page: Path) -> set[str]:
    """The names by which headings are linked to, as GitHub makes them."""
    titles = re.findall(r"^#{1,6} +(.*?) *$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    names = Counter[str]()
    anchors = set()
    for title in titles:
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        anchors.add(f"{name}-{names[name]}" if names[name] else name)
        names[name] += 1
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=lambda it: it.name)
def test_each_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for link in _links(page):
        path, _, anchor = link.partition("#")
        to = page.parent / path if path else page
        assert to.exists(), f"{page.name} links to {link}: there is no such file"
        assert not anchor or anchor in _anchors(to), f"{page.name} links to {link}: no such heading"


def test_links_are_found_at_all_and_headings_are_named_as_on_github(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "# One `x`, two\n## Same\n## Same\n[`t`](b.md#c) [u](https://e.example)\n"
        "```sh\n# no heading [v](w.md)\n```\n`[v](w.md)`\n"
    )

    assert list(_links(page)) == ["b.md#c"]
    assert _anchors(page) == {"one-x-two", "same", "same-1"}
    assert sum(len(list(_links(it))) for it in PAGES) > 20


def test_each_page_that_docs_or_code_name_is_there() -> None:
    folders = ("workers", "tasks", "orchestration", "tests")
    sources = [
        it
        for folder in folders
        for pattern in ("*.py", "*.lua", "*.toml")
        for it in (ROOT / folder).rglob(pattern)
    ]
    for source in (*PAGES, *sources, ROOT / "Makefile", ROOT / "pyproject.toml"):
        for name in NAMED.findall(source.read_text("utf-8")):
            assert (ROOT / name).exists(), f"{source.relative_to(ROOT)} names {name}"
