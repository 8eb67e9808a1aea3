"""What becomes of the bells of a ring: they are published, or go back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kombu.exceptions import KombuError

from orchestration.dispatch import publisher
from orchestration.dispatch.delays import Delays
from orchestration.kinds.registry import all_kinds
from workers import failpoints
from workers.errors import LedgerDamaged, SchemaUnknown
from workers.governor.grants import Hindrance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from orchestration.dispatch.delays import Warnings
    from workers.clients import Client
    from workers.governor.grants import Bell

_logger = logging.getLogger(__name__)


class Bells:
    """The bells that one dispatcher rings.

    Args:
        app: The application whose broker carries them.
        warnings: For jobs that this worker cannot do.
    """

    def __init__(self, app: Celery, warnings: Warnings) -> None:
        self._app = app
        self._warnings = warnings
        self._delays = Delays()  #: of jobs whose rows cannot be done here

    def publish(self, client: Client, bells: Sequence[Bell]) -> bool:
        """Publish the bells of a client; returns whether the broker took them.

        Those of a job that this release does not know or read go back for a while.
        """
        if not bells:
            return True
        named, unknown = self._name_tasks(client, bells)
        try:
            if named:
                publisher.publish(self._app, client.keys.namespace, client.name, named)
        except (OSError, KombuError) as error:
            _logger.warning("the broker is away, the bells are requeued (%s)", type(error).__name__)
            for bell in bells:
                client.governor().requeue(bell.key, bell.step)
            return False
        failpoints.reach("published")
        for bell in unknown:
            delay_s = self._delays.next_s(bell.job)
            client.governor().requeue(bell.key, bell.step, Hindrance(delay_s=delay_s))
        return True

    def _name_tasks(
        self, client: Client, bells: Sequence[Bell]
    ) -> tuple[list[tuple[str, Bell]], list[Bell]]:
        """The bells with their tasks, and those whose job this release does not know or read.

        A bell whose job is not there is none of these. Nobody answers it, and the sweep decides.
        """
        named, unknown = [], []
        for bell in bells:
            try:
                kind_name = client.ledger.job_params(bell.job).kind
            except (SchemaUnknown, LedgerDamaged) as error:
                unknown.append(bell)
                self._warnings.warn(bell.job, str(error))
                continue
            if not kind_name:
                self._warnings.warn(bell.job, f"a row waits whose job {bell.job} is not there")
                continue
            kind = all_kinds().get(kind_name)
            if task := kind and (kind.steps.local_task if bell.local else kind.steps.task):
                named.append((task, bell))
            else:
                unknown.append(bell)
                why = f"job {bell.job} is of kind {kind_name!r}, which this worker lacks"
                self._warnings.warn(bell.job, why)
        return named, unknown
