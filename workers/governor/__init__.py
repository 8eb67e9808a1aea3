"""When a call may leave and what a settled call leads to; never what the call says.

- `governor`: ring, admit, settle and sweep, each one script and one round trip.
- `flows`: whose transactions share a backlog. `overrides`: the limits that hold, agreed and live.
- `registry`: which worker processes live. `proposals`: what their configurations say of the limits,
  `agreement`: whose of them hold, `agreement_of_all`: for many clients at once. `binding`: the
  account that a ledger belongs to.
- `refusals`: the record of answers of 429. `state`: what the governor's hash says.
"""

from workers.governor.flows import LANES, Flow
from workers.governor.governor import Governor

__all__ = ["LANES", "Flow", "Governor"]
