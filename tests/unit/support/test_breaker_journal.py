"""The replay of a breaker's rule sees in made-up journals what is in them."""

from __future__ import annotations

from tests.support.faults.breaker import Call, Rule, calls_of, first_true_us, openings

MS, S = 1_000, 1_000_000
BEGAN_US = 1_790_000_000 * S
RULE = Rule(open_s=5, good=5)


def at(ms: float, *, refused: bool = False, work_ms: float = 1) -> Call:
    """A call that arrives so long after the beginning."""
    began_us = BEGAN_US + round(ms * MS)
    return Call(began_us, began_us + round(work_ms * MS), refused)


def storm(count: int = 20, every_ms: float = 100) -> list[Call]:
    """So many calls, of which 7 in 10 are refused, the last one too."""
    return [at(n * every_ms, refused=n % 10 not in {0, 3, 6}) for n in range(count)]


def probes(answers: str, first_ms: float, work_ms: float = 80) -> list[Call]:
    """One call every 100 ms: + answered well, - refused."""
    return [
        at(first_ms + n * 100, refused=it == "-", work_ms=work_ms) for n, it in enumerate(answers)
    ]


def test_the_rule_is_true_at_the_refusal_that_makes_it_so() -> None:
    assert first_true_us(storm(), RULE) == BEGAN_US + 1900 * MS + MS
    assert first_true_us(storm(19), RULE) is None


def test_60_percent_do_not_open_it() -> None:
    calls = [at(n * 100, refused=n % 5 in {2, 3, 4}) for n in range(60)]

    assert first_true_us(calls, RULE) is None


def test_calls_that_left_the_window_count_no_more() -> None:
    good = [at(n * 100) for n in range(20)]
    late = [at(9500 + n * 50, refused=True) for n in range(40)]

    by_seconds = first_true_us(good + late, RULE)
    exactly = first_true_us(good + late, Rule(seconds=False))

    # At 10.0 s the first ten calls leave the seconds, but only the first one the exact window.
    assert by_seconds == BEGAN_US + 10_251 * MS
    assert exactly == BEGAN_US + 10_551 * MS


def test_an_opening_that_holds_probes_one_at_a_time_and_closes() -> None:
    good = probes("+++++", first_ms=7000)
    after = [at(8000 + n * 5) for n in range(900)]

    (it,) = openings([*storm(), *good, *after], RULE)

    assert (it.late(), it.probes, it.refused_probes, it.at_once) == (0, 5, 0, 1)
    assert it.first_probe_us == BEGAN_US + 7000 * MS
    assert it.closed_us == BEGAN_US + 7480 * MS


def test_what_was_in_flight_at_the_opening_is_not_late() -> None:
    calls = [*storm(), at(2050), at(2102), *probes("+++++", first_ms=7200)]

    (it,) = openings(calls, RULE)

    assert it.after_us == (149 * MS, 201 * MS)
    assert it.late() == 1


def test_a_refused_probe_holds_it_again() -> None:
    first, second = probes("+-", first_ms=7000), probes("+++++", first_ms=12_200)

    (it,) = openings([*storm(), *first, *second], RULE)

    assert (it.probes, it.refused_probes, it.at_once) == (7, 1, 1)
    assert it.closed_us == second[-1].ended_us


def test_two_probes_at_once_are_seen() -> None:
    calls = [*storm(), *probes("+++++", first_ms=7000, work_ms=110)]

    (it,) = openings(calls, RULE)

    assert it.at_once == 2


def test_a_breaker_that_never_opened_shows_no_silence() -> None:
    (it,) = openings(storm(100), RULE)

    assert it.first_probe_us is None
    assert it.closed_us is None
    assert it.late() == 78


def test_a_second_storm_is_a_second_opening() -> None:
    good = probes("+++++", first_ms=7000)
    again = [at(8000 + n * 100, refused=True) for n in range(20)]

    first, second = openings([*storm(), *good, *again], RULE)

    assert first.closed_us == good[-1].ended_us
    assert second.opened_us == again[-1].ended_us


def test_token_requests_are_no_calls() -> None:
    requests = [
        {"t_us": 5, "status": 200, "kind": "token"},
        {"t_us": 9, "status": 429, "kind": "refused"},
        {"t_us": 7, "status": 201, "kind": "effect", "work_us": 4},
    ]

    assert calls_of(requests) == [Call(7, 11, refused=False), Call(9, 9, refused=True)]
