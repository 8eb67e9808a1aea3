"""The threads of a worker: a queue, and so many threads that take from it.

Celery's own pool of threads hands each task over through `concurrent.futures`: a future with a
lock, a semaphore and a weak reference for a result that nobody asks for.
"""

from __future__ import annotations

import atexit
import logging
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from celery.concurrency.base import BasePool, apply_target
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

#: The setting of a Celery app that goes with this pool.
SETTINGS: Final = {"worker_pool": f"{__name__}:TaskPool"}

_logger = logging.getLogger(__name__)


class TaskPool(BasePool):  # type: ignore[misc]  # Celery ships no types
    """As many threads as the worker has concurrency, from start to stop.

    As with Celery's own threads, a task that runs cannot be ended from outside, and the pool
    neither grows nor shrinks.
    """

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    @override
    def on_start(self) -> None:
        # A worker that fails as it starts ends without a stop: idle threads must not hold it then.
        atexit.register(self.on_stop)
        for number in range(self.limit):
            thread = threading.Thread(target=self._work, name=f"task-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    @override
    def on_apply(
        self,
        target: Callable[..., object],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., object] | None = None,
        accept_callback: Callable[..., object] | None = None,
        **_: object,
    ) -> None:
        self.submit(lambda: apply_target(target, args, kwargs, callback, accept_callback))

    def submit(self, task: Callable[[], object]) -> None:
        """Run `task` in the next thread that is free."""
        self._tasks.put(task)

    @override
    def on_stop(self) -> None:
        """Wait for what runs; what was not begun goes back to the broker."""
        atexit.unregister(self.on_stop)
        self.on_terminate()
        for thread in self._threads:
            thread.join()

    @override
    def on_terminate(self) -> None:
        """Begin nothing more. What runs goes on: the process ends after it."""
        try:
            while True:
                self._tasks.get_nowait()
        except Empty:
            pass
        for _ in self._threads:
            self._tasks.put(None)

    def grow(self, n: int = 1) -> None:
        """Refuse: the dispatcher rings for as many threads as the worker has told it."""
        raise NotImplementedError(f"{n} threads cannot be added; start another worker")

    def shrink(self, n: int = 1) -> None:
        """Refuse, as `grow` does."""
        raise NotImplementedError(f"{n} threads cannot be taken away; stop a worker")

    def _work(self) -> None:
        take = self._tasks.get
        while (task := take()) is not None:
            try:
                task()
            except BaseException:  # a thread that ended here would be missing until a restart
                _logger.exception("a task ended outside of Celery's own handling")
            task = None  # what it refers to must not live until the next one

    @override
    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        return {**info, "threads": len(self._threads)}
