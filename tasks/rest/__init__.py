"""Steps that are written in the row itself: any REST call.

- `calls`: the steps of kind `calls`.
- `references`: the values of earlier answers, put where a step refers to them.
- `conditions`: how the answers to look-ups and polls are read.

Nothing here knows one platform: no path, no state, no error code of any.
"""

from tasks.rest.calls import CallSteps

__all__ = ["CallSteps"]
