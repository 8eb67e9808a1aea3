"""Celery publishes the next link of a chain only where settle rang for it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery

from tasks.rest.calls import CallSteps
from tasks.steps.call import step_of
from tests.unit.tasks.test_call import GRANT, Recorder
from workers.governor.grants import Settled


@pytest.mark.parametrize("settled", [Settled.RING, Settled.BACKLOG, Settled.END, Settled.STALE])
def test_the_rest_of_a_chain_is_dropped_unless_its_next_step_was_rung(settled: Settled) -> None:
    recorder = Recorder(200)
    recorder.client.governor = lambda: SimpleNamespace(  # type: ignore[method-assign]
        admit=lambda *_: GRANT, settle=lambda *_: settled
    )
    step = Celery(set_as_current=False).register_task(step_of(CallSteps(), "calls"))
    step.push_request(chain=["the next link"], callbacks=["another"])

    step.serve_bell(recorder.client, "key", 1)

    goes_on = settled is Settled.RING
    assert step.request.chain == (["the next link"] if goes_on else None)
    assert step.request.callbacks == (["another"] if goes_on else None)
