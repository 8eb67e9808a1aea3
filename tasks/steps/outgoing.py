"""What a granted step sends, and under which key: at each send the same, or nothing.

A provider knows a key together with the request that came first under it. So what would go out
otherwise, since another release, another setting or a changed file makes it, is refused. After a
send of unknown outcome the transaction ends `unknown`. If surely none was executed, it waits for a
fresh key (`tasks.steps.detours`).

The digest of a request is recorded with each answer that is no success. A worker that died before
that leaves none: then nothing is compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from tasks.steps.detours import request_key
from workers.answer.guards import READS, Guard, Memo, NextCall
from workers.answer.outcome import Outcome
from workers.answer.verdict import Advance, Finish, Requeue
from workers.http.request import Request
from workers.ledger.identity import part_key, request_digest, step_key

if TYPE_CHECKING:
    from tasks.steps.granted import GrantedStep
    from workers.answer.outcome import Answer
    from workers.answer.verdict import Verdict
    from workers.auth.credentials import Token

#: What is wrong with a request that is not the first one under its key.
CHANGED: Final = "this is another request than was sent first under its key, so it was not sent"


def checks_first(granted: GrantedStep) -> bool:
    """Whether the client's own probe goes out instead of the call: nothing guards that one."""
    return granted.grant.checks and granted.client.settings().probe is not None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The request of a granted step, still without its access token."""

    request: Request
    key: str  #: "" = it carries none: a read, or a look-up

    @classmethod
    def of(cls, granted: GrantedStep) -> Self:
        """What the kind sends for this step, or the client's probe.

        A read and a look-up have no key: a provider that matches keys alone would answer them with
        what it remembers of another call.

        Raises:
            CannotSay: the step cannot be sent as it was given.
            ValueError: nor can its request.
        """
        grant, plan, probe = granted.grant, granted.plan, granted.client.settings().probe
        if grant.checks and probe:
            return cls(Request("GET", probe), "")
        request = granted.kind.request(granted.row, granted.job_params, grant)
        if grant.looking or plan.guard is Guard.READ or request.method in READS:
            return cls(request, "")
        key = request_key(granted.client, grant, granted.row)
        if plan.parts > 1:
            key = part_key(key, grant.step, grant.part + 1)
        elif granted.client.settings().key_scope == "step":
            key = step_key(key, grant.step)
        return cls(request, key)

    def refuse_changed(self, granted: GrantedStep) -> Finish | Requeue | None:
        """What becomes of a request that is not the one that was sent under its key; None: it is.

        What earlier sends came to stays as it was.
        """
        grant = granted.grant
        if not (self.key and grant.sent_digest) or self.digest(granted) == grant.sent_digest:
            return None
        if grant.unknown:
            ask = "that one may have been executed: look at the provider"
            error = f"step {grant.step}: {CHANGED}; {ask}"
            return Finish(state="unknown", outcome=Outcome.NOT_EXECUTED, error=error)
        error = f"step {grant.step}: {CHANGED}; it waits for a fresh key"
        memo = Memo(next=NextCall.OTHER_REQUEST)
        return Requeue(outcome=Outcome.NOT_EXECUTED, memo=memo, error=error)

    def digest(self, granted: GrantedStep) -> str:
        """The digest of what identifies it at the provider; "" = it carries no key.

        The query is left out: a kind may say there how the call is to be done, as contacts do that
        may have been added before.
        """
        if not self.key:
            return ""
        request, settings = self.request, granted.client.settings()
        url = f"{settings.base_url}{request.path.partition('?')[0]}"
        header = (settings.idempotency_header, self.key)
        return request_digest(request.method, url, header, request.body)

    def note(self, granted: GrantedStep, answer: Answer, verdict: Verdict) -> Verdict:
        """The verdict with the digest of what was sent, where it may have to be sent again."""
        if isinstance(verdict, Advance) or not (self.key and answer.sent):
            return verdict
        if isinstance(verdict, Requeue) and verdict.part_done:
            return verdict
        return replace(verdict, sent_digest=self.digest(granted))

    def with_headers(self, granted: GrantedStep, token: Token | None) -> Request:
        """The request with what every request carries: its key, and the token of the client.

        Answers are read as JSON, so it asks for that unless its row asks for something else.
        """
        headers = dict(self.request.headers)
        if not any(name.lower() == "accept" for name in headers):
            headers["Accept"] = "application/json"
        if self.key:
            headers[granted.client.settings().idempotency_header] = self.key
        if token:
            headers |= token.headers
        return replace(self.request, headers=headers)
