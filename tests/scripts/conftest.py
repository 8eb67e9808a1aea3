"""These tests run the scripts with one look more: what is kept of a definition was not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workers.store import scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

FOUND = "local flow = KEPT.flows[definition]\n"
LOOK = """
if flow then
  local read = cjson.decode(string.match(definition, "^[^\\n]*"))
  if cjson.encode(flow) ~= cjson.encode(read) then
    error("a definition that is kept was changed by an earlier call")
  end
end
"""


@pytest.fixture(autouse=True, scope="module")
def looking_library() -> Iterator[str]:
    """The name of the library that runs; it keeps so few definitions that it often starts anew."""
    name, text = scripts.library()
    assert (text.count(FOUND), text.count("KEPT.size == MOST_FLOWS")) == (1, 1)
    text = text.replace(FOUND, FOUND + LOOK).replace("KEPT.size == MOST_FLOWS", "KEPT.size == 5")
    looking = f"{name}_looking"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "library", lambda: (looking, text.replace(name, looking)))
        yield looking


@pytest.fixture(autouse=True, scope="module")
def empty_store(store: Store) -> None:
    """A module begins without the keys of others, among which a test would look for its own."""
    store.flushdb()
