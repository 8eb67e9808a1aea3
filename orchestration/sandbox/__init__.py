"""A local stand-in for a provider: the oracle of the tests, a process of its own.

It enforces limits strictly, remembers idempotency keys, misbehaves on command, and counts every
effect per business id in a journal outside the product's store. It never imports anything else of
Headgate, so that it cannot share our mistakes.

    __main__, process                       start a sandbox, and steer it
    servers/                                receive requests and send answers; `servers.api` is the
                                            path of a call
    provider                                the state: everything below as one object
    oauth, quota/, faults/, idempotency     refuse, damage or replay a call
    platforms, genesys/, generic            know the entities, and have the effect
    journal/                                records what happened, and reports it
    calls/, config/, determinism            what all the others share

A NICE contact list would stand in a package `nice/` beside `genesys/`; `platforms` names it.
"""

from orchestration.sandbox.process import SandboxControl, SandboxProcess

__all__ = ["SandboxControl", "SandboxProcess"]
