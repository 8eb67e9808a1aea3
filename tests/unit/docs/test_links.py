"""What the docs lead to is there: pages, headings, files of the code, and pages that code names."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
INDEX = ROOT / "docs/index.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "compose/README.md",
    *DOCS,
]
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]*)`")
LINK = re.compile(r"\]\(([^)\s]*)\)")
ELSEWHERE = re.compile(r"[a-z]+:")
NAMED = re.compile(r"\bdocs/[\w/-]+\.md\b")
#: A file or folder of the project in a code span.
CODE = re.compile(r"(?:workers|tasks|orchestration|tests|compose)/[\w./-]*(?:\.\w+|/)")
#: What a user makes.
MADE: Final = frozenset(("compose/secrets",))


def _text(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def _links(page: Path) -> Iterator[str]:
    found: list[str] = LINK.findall(SPAN.sub("", _text(page)))
    return (link for link in found if not ELSEWHERE.match(link))


def _anchors(page: Path) -> set[str]:
    """The names by which headings are linked to, as GitHub makes them."""
    titles = re.findall(r"^#{1,6} +(.*?) *$", _text(page), re.MULTILINE)
    names = Counter[str]()
    anchors = set()
    for title in titles:
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        anchors.add(f"{name}-{names[name]}" if names[name] else name)
        names[name] += 1
    return anchors


def _is_there(path: Path) -> bool:
    return path.exists() or str(path.relative_to(ROOT)) in MADE


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_each_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for link in _links(page):
        path, _, anchor = link.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert _is_there(to), f"{_name(page)} links to {link}: there is no such file"
        if anchor and to.exists():
            assert anchor in _anchors(to), f"{_name(page)} links to {link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_each_file_of_the_code_that_a_page_names_is_there(page: Path) -> None:
    for span in SPAN.findall(_text(page)):
        if CODE.fullmatch(span):
            assert _is_there(ROOT / span.rstrip("/")), f"{_name(page)} names {span}"


def test_every_page_is_reached_from_the_index() -> None:
    reached, ahead = {INDEX}, [INDEX]
    while ahead:
        page = ahead.pop()
        for link in _links(page):
            to = (page.parent / link.partition("#")[0]).resolve()
            if to in DOCS and to not in reached:
                reached.add(to)
                ahead.append(to)

    assert [_name(page) for page in DOCS if page not in reached] == []


def test_links_are_found_at_all_and_headings_are_named_as_on_github(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "# One `x`, two\n## Same\n## Same\n[`t`](b.md#c) [u](https://e.example)\n"
        "```sh\n# no heading [v](w.md)\n```\n`[v](w.md)`\n"
    )

    assert list(_links(page)) == ["b.md#c"]
    assert _anchors(page) == {"one-x-two", "same", "same-1"}
    assert sum(len(list(_links(page))) for page in PAGES) > 20


def test_each_page_that_docs_or_code_name_is_there() -> None:
    folders = ("workers", "tasks", "orchestration", "tests", "compose")
    sources = [
        file
        for folder in folders
        for pattern in ("*.py", "*.lua", "*.toml", "*.yaml")
        for file in (ROOT / folder).rglob(pattern)
    ]
    for source in (*PAGES, *sources, ROOT / "Makefile", ROOT / "pyproject.toml"):
        for name in NAMED.findall(source.read_text("utf-8")):
            assert _is_there(ROOT / name), f"{_name(source)} names {name}"
