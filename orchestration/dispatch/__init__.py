"""What runs in every worker beside the pool: it rings, publishes the bells and opens pages.

`dispatcher` is the thread that rings. When it does so for which client, `turns` says; `wakes` hears
of new work, `looks` finds what nobody heard of, and `shares` says how many bells may be out.
`bells` has them published, which `publisher` writes. `page_opener` is the thread that opens pages
of jobs, as `pages` does it.

`bootstep` starts the dispatcher in each Celery worker, and `supervisor` keeps the process of a
worker alive; `restarts` knows of the ends of earlier ones. What only a worker needs is imported by
its module's own name: whoever opens pages loads no Celery application.

Nothing here decides when a call may leave: the scripts of the governor do. Nothing here sends a
call: the tasks do.
"""

from __future__ import annotations

from orchestration.dispatch.pages import open_next_page
from orchestration.dispatch.publisher import publish

__all__ = ["open_next_page", "publish"]
