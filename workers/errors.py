"""Every error of the product, sorted by what can be done next.

HeadgateError
├── UsageError            change the command, the file or the configuration (exit code 2)
│   ├── ConfigError         the configuration is wrong
│   │   └── SchemaUnknown       another release wrote what is stored: use that one
│   └── InputError          the submitted file is wrong
├── NotNow                nothing was sent; the same work may be tried again later
│   ├── StoreAway           the store did not answer: do not send
│   │   ├── FunctionUnknown     it does not know the script: nothing has run, load it
│   │   └── StoreReplaced       it is not the store of this installation: a person must decide
│   ├── TokenUnavailable    the provider gave no access token
│   ├── GrantStale          the grant was too old at the first byte: it is not used
│   └── Throttled           a call from outside of jobs would have to wait longer than it may
│       └── CircuitOpen       a breaker is open, whatever the call would wait
├── LedgerDamaged         a key is not as it must be: headgate doctor looks at it
├── RepeatRefused         a task sent this write before: look at the provider, it is not repeated
└── StoreUnfit            the store would lose or evict the ledger: a person must change it

What a provider answers is never an exception: it is an `Outcome` (`workers.answer.outcome`).
"""

from __future__ import annotations

from typing import Final


class HeadgateError(Exception):
    """Root of the tree; its text is one sentence for the user, without secrets."""

    #: Exit code of a command that ends with this error.
    exit_code = 1


class UsageError(HeadgateError):
    """The command cannot work as it was given; the text says what to change."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration is wrong; the text names the place and the remedy."""


class SchemaUnknown(ConfigError):
    """Another release wrote what is stored; nothing of it was read or changed."""


class InputError(UsageError):
    """The submitted file is wrong; the text names the line, the column and the reason."""


class NotNow(HeadgateError):
    """Nothing was sent and nothing is lost: the same work may be tried again later."""


class StoreAway(NotNow):
    """The store did not answer or refused to write; nothing may leave while it is away."""


class FunctionUnknown(StoreAway):
    """The store does not know a function that it was to call: nothing has run."""


class StoreReplaced(StoreAway):
    """The store was emptied, replaced or rolled back; nothing leaves until a person decided."""


class TokenUnavailable(NotNow):
    """The provider gave no access token, so no call can leave.

    `refused` distinguishes a wrong secret (a person must act) from a provider that is away.
    `overdue` says that this process has waited for long, and its threads are better used elsewhere.
    """

    def __init__(self, message: str, *, refused: bool = False, overdue: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.overdue = overdue


class GrantStale(NotNow):
    """More time passed since the grant than its limits allow; the call was not sent."""


class Throttled(NotNow):
    """A call from outside of jobs was not sent: it would wait longer than it may.

    `wait_s` is how long at least, seconds from now.
    """

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s

    def __reduce__(self) -> tuple[type, tuple[str, float]]:
        """Pickle with all arguments, for a task's error passes between processes."""
        return type(self), (str(self), self.wait_s)


class CircuitOpen(Throttled):
    """A breaker is open: of the client's calls, or of those of this scope, most failed of late."""


class LedgerDamaged(HeadgateError):
    """A key is not as it must be; a script that meets one stops before it writes anything.

    Trying again changes nothing: what cannot be read is set aside, and a person looks at it.
    """


class RepeatRefused(HeadgateError):
    """A write of a task was sent in an earlier run, and was not sent again.

    Its key is too old for the provider to remember, or its request is another one now.
    """


class StoreUnfit(HeadgateError):
    """The store is reachable but would lose or evict the ledger; the text says what to set."""


#: What the store may answer to something that stands beside the work, such as a record for people
#: or a word on a token: it is dropped, for an answer of the provider must not be lost by it.
STORE_FAILS: Final = (StoreAway, LedgerDamaged)
