"""What is taken for a bell."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.steps.bell import LARGEST_STEP, LONGEST_NAME, read_bell

KEY = "0d7b3a52-0000-8000-8000-000000000000"


@pytest.mark.parametrize("step", [1, 2, LARGEST_STEP])
def test_names_of_client_key_and_step_are_a_bell(step: int) -> None:
    assert read_bell(("acme", KEY, step), {}) == ("acme", KEY, step)
    assert read_bell(["x" * LONGEST_NAME, KEY, step], {}) is not None


@pytest.mark.parametrize(
    "names",
    [
        (), ("acme",), ("acme", KEY), ("acme", KEY, 1, 1), ("acme", KEY, "1"), ("acme", KEY, 1.0),
        ("acme", KEY, True), ("acme", KEY, None), ("acme", KEY, 0), ("acme", KEY, -1),
        ("acme", KEY, LARGEST_STEP + 1), ("acme", KEY, 10**30), ("acme", None, 1), ("acme", "", 1),
        ("acme", "k" * (LONGEST_NAME + 1), 1), ("acme", "\ud800", 1), ("acme", b"key", 1),
        ("", KEY, 1), ("x" * (LONGEST_NAME + 1), KEY, 1), (["acme"], KEY, 1), ({}, [], ()),
    ],
)  # fmt: skip
def test_anything_else_is_none(names: tuple[Any, ...]) -> None:
    assert read_bell(names, {}) is None


def test_a_bell_has_no_keyword_arguments() -> None:
    assert read_bell(("acme", KEY, 1), {"step": 1}) is None
