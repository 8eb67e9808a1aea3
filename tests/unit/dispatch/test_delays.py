"""What rests, and what is remembered of it: bounded, whatever the number of jobs."""

from __future__ import annotations

from orchestration.dispatch.delays import MOST_JOBS, Delays, Rests


def test_what_rests_is_left_alone_until_its_time_is_over() -> None:
    now_s = [0.0]
    rests = Rests(lambda: now_s[0])

    rests.rest("job", 10)

    assert (rests.rests("job"), rests.rests("other")) == (True, False)
    now_s[0] = 10.0
    assert not rests.rests("job")


def test_of_very_many_jobs_the_oldest_is_forgotten() -> None:
    rests = Rests(lambda: 0.0)
    for number in range(MOST_JOBS + 1):
        rests.rest(f"job{number}", 10)

    assert (rests.rests("job0"), rests.rests("job1")) == (False, True)
    assert len(rests._until_s) == MOST_JOBS


def test_a_job_that_rests_again_is_the_newest() -> None:
    rests = Rests(lambda: 0.0)
    for number in range(MOST_JOBS):
        rests.rest(f"job{number}", 10)
    rests.rest("job0", 10)
    rests.rest("one more", 10)

    assert (rests.rests("job0"), rests.rests("job1")) == (True, False)


def test_delays_are_remembered_of_so_many_jobs_at_most() -> None:
    delays = Delays(lambda: 0.0)
    for number in range(3 * MOST_JOBS):
        delays.next_s(f"job{number}")

    assert len(delays._by_job) <= MOST_JOBS
