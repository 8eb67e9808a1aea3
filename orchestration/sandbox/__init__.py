"""A local stand-in for a provider: the oracle of the tests, a process of its own.

It enforces limits strictly, remembers idempotency keys, misbehaves on command, and counts every
effect per business id in a journal outside the product's store. It imports nothing else of
Headgate, so it cannot share our mistakes.

Path of a request: `server` (arrival, auth, limits, faults) → `idempotency` → `genesys` or
`generic` (the effect) → `journal` → `delivery` (the answer, or what is left of it). A file goes
another way: `transfers`, at a port of its own.
"""
