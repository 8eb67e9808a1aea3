"""One call and its reply, as every other package of the sandbox passes them on.

`call` holds the request with what the provider learns of it, and the operation that it asks for;
`reply` holds what goes back, with what the call did. Nothing here knows a platform, a limit or a
fault, and nothing here writes to a connection.
"""

from orchestration.sandbox.calls.call import (
    CONTROL_PREFIX,
    TRANSFER_PREFIX,
    ApiOperation,
    Call,
)
from orchestration.sandbox.calls.reply import ApiError, Reply, ReplyKind, bad_request, encode_json

__all__ = [
    "CONTROL_PREFIX",
    "TRANSFER_PREFIX",
    "ApiError",
    "ApiOperation",
    "Call",
    "Reply",
    "ReplyKind",
    "bad_request",
    "encode_json",
]
