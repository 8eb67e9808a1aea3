"""What must hold after every run, whatever was killed: one function each, returning violations.

A violation is one sentence that names rows by line and key, never by content; no violation is an
empty list. Of the ledger alone, on a live store too (`headgate doctor` runs them):

    rows_are_accounted_for   keys_are_derived   nothing_is_stranded   counters_match

When all is over, `everything_ended`.

Against the journal of a sandbox provider, which shares nothing with us and so not our mistakes:

    at_most_one_effect       effects_match_states   steps_in_order     one_key_per_transaction
    within_limits            nothing_refused        quiet_in_pauses    mostly_succeeded
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from tasks import KINDS
from tasks.calls import REFERENCE
from workers import identity, keys
from workers.ledger import FINAL
from workers.limits import worst_case
from workers.verdict import Guard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from workers.clients import Client
    from workers.ledger import Row
    from workers.settings import LimitSettings

#: What the sandbox's control API lists: effects or requests.
Record = dict[str, Any]

#: The part of all transactions that succeeds where the provider ends healthy.
MOST = 0.95
#: Transactions whose places one script looks up.
_AT_ONCE = 100

# Where transactions stand, each seen in one instant: a look in pieces would find a transaction
# that moves meanwhile in no place, or in two.
#
# KEYS[1]  prefix of the client        ARGV[1…]  idempotency keys
# Returns  for each {state, place, …}: its places among line, due, suspects, touch
_PLACES: Final = """#!lua flags=no-writes
local base, reply = KEYS[1], {}
for _, key in ipairs(ARGV) do
  local tx = redis.call("HMGET", base .. "tx:" .. key, "s", "k", "fl")
  local found, flow, n = {tx[1] or ""}, tx[3] or "", 0
  if string.find(flow, ",", 1, true) then
    for name in string.gmatch(tx[3], "[^,]+") do
      n = n + 1
      if n == tonumber(tx[2]) then flow = name end
    end
  end
  local line = base .. "line:" .. flow
  local function stands(place, there) if there then found[#found + 1] = place end end
  -- What waits in a line that ring does not look at waits for ever.
  if redis.call("SISMEMBER", base .. "active", flow) == 1 then
    for _ in ipairs(redis.call("LPOS", line, key, "COUNT", 0)) do stands("line", true) end
    stands("due", redis.call("ZSCORE", line .. ":due", key))
  end
  stands("suspects", redis.call("ZSCORE", base .. "suspects", key))
  stands("touch", redis.call("ZSCORE", base .. "touch", key))
  reply[#reply + 1] = found
end
return reply
"""

# The counters of the governor beside what they count. Each script moves both together, so one look
# in one instant finds them equal on a busy store too.
#
# KEYS[1]  prefix of the client
# Returns  {field, counter, counted, …} for b:* (bells out) and q:* (waiting in a lane) that differ
_COUNTERS: Final = """#!lua flags=no-writes
local base, counted, flows, flat = KEYS[1], {}, {}, redis.call("HGETALL", KEYS[1] .. "flows")
local function count(field, by) counted[field] = (counted[field] or 0) + by end
for i = 1, #flat, 2 do
  local line, flow = base .. "line:" .. flat[i], cjson.decode(flat[i + 1])
  flows[flat[i]] = flow
  count("q:" .. flow.lane, redis.call("LLEN", line) + redis.call("ZCARD", line .. ":due"))
end
for _, key in ipairs(redis.call("ZRANGE", base .. "touch", 0, -1)) do
  local tx = redis.call("HMGET", base .. "tx:" .. key, "s", "k", "fl")
  if tx[1] == "r" then
    local flow, n = tx[3], 0
    if string.find(flow, ",", 1, true) then
      for name in string.gmatch(tx[3], "[^,]+") do
        n = n + 1
        if n == tonumber(tx[2]) then flow = name end
      end
    end
    for _, cell in ipairs(flows[flow].limits) do count("b:" .. cell[1], 1) end
  end
end
local gov, reply = redis.call("HGETALL", base .. "gov"), {}
for i = 1, #gov, 2 do
  local field = gov[i]
  if string.find(field, "^[bq]:") then
    if tonumber(gov[i + 1]) ~= (counted[field] or 0) then
      for _, it in ipairs({field, gov[i + 1], counted[field] or 0}) do reply[#reply + 1] = it end
    end
    counted[field] = nil
  end
end
for field, n in pairs(counted) do
  if n ~= 0 then for _, it in ipairs({field, 0, n}) do reply[#reply + 1] = it end end
end
return reply
"""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of the ledger beside what it was to send."""

    key: str
    state: str
    step: int  #: that is next, out, or the last one
    routes: tuple[str, ...]  #: method and path of each step, with references to earlier answers
    guards: str  #: the guard of each step, one letter each

    @property
    def writes(self) -> list[int]:
        """The steps that have an effect."""
        return [number for number, it in enumerate(self.guards, 1) if it != Guard.READ]


def check_ledger(client: Client) -> dict[str, list[str]]:
    """All invariants of the ledger of all jobs of a client: name → violations."""
    found: dict[str, list[str]] = {"counters_match": counters_match(client)}
    jobs: list[str] = client.store.zrange(client.keys.jobs, 0, -1)  # type: ignore[assignment]
    for check in (rows_are_accounted_for, keys_are_derived, nothing_is_stranded):
        found[check.__name__] = [line for job in jobs for line in check(client, job)]
    return found


def rows_are_accounted_for(client: Client, job: str) -> list[str]:
    """Every row is in one state, and the job's counters are what a recount finds.

    A final state is never left, so on a job that runs the recount lies between the counters before
    it and those after it; on a job at rest these are the same.
    """
    before = client.ledger.job(job)
    recount, rows, violations = Counter[str](), 0, list[str]()
    for page in range(_int(before, "pages")):
        found = _page(client, job, page)
        if found is None:
            violations.append(f"job {job}: page {page} of its rows is missing or damaged")
            continue
        rows += len(found)
        recount["rejected"] += sum("error" in row for row in found)
        if page < _int(before, "opened"):
            for row, _, _, tx in _looked_up(client, job, page, found):
                if tx["s"] in FINAL:
                    recount[tx["s"]] += 1
                elif tx["s"] not in ("w", "r", "t", "s"):
                    violations.append(f"job {job}: line {row['line']} is in no state")
    after = client.ledger.job(job)
    violations += [
        f"job {job}: {_int(after, state)} rows are counted as {state}, a recount finds "
        f"{recount[state]}"
        for state in FINAL
        if not _int(before, state) <= recount[state] <= _int(after, state)
    ]
    ended = sum(_int(after, state) for state in FINAL)
    if rows != _int(before, "rows"):
        violations.append(f"job {job}: {before.get('rows')} rows accepted, its pages hold {rows}")
    if ended != _int(after, "ended"):
        violations.append(f"job {job}: {after.get('ended')} rows ended, its states sum to {ended}")
    finished = "closed" in after and ended == _int(after, "rows")
    if finished != ("finished_us" in after):
        violations.append(
            f"job {job}: {ended} of {after.get('rows')} rows ended, but it is "
            f"{'not ' if finished else ''}marked as finished"
        )
    return violations


def keys_are_derived(client: Client, job: str) -> list[str]:
    """The key of each row equals the derived one, and there is no transaction beside these."""
    it = client.ledger.job(job)
    own, violations = 0, list[str]()
    for page in range(_int(it, "opened")):
        for row, key, place, tx in _looked_up(client, job, page, _page(client, job, page) or []):
            own += "joins" not in row
            if not tx["s"]:
                violations.append(f"job {job}: line {row['line']} has no transaction under {key}")
            elif tx["j"] != job or ("joins" not in row and tx["p"] != place):
                violations.append(f"job {job}: {key}, line {row['line']}, belongs to another row")
    if own != _int(it, "released"):
        violations.append(f"job {job}: {it.get('released', 0)} transactions made for {own} rows")
    return violations


def nothing_is_stranded(client: Client, job: str) -> list[str]:
    """What is open waits in exactly one line or among the suspects, or is out with a due time."""
    places = client.store.register_script(_PLACES)
    violations = []
    for page in range(_int(client.ledger.job(job), "opened")):
        found = _looked_up(client, job, page, _page(client, job, page) or [])
        still_open = list({key for _, key, _, tx in found if tx["s"] and tx["s"] not in FINAL})
        for some in (still_open[at : at + _AT_ONCE] for at in range(0, len(still_open), _AT_ONCE)):
            reply: Any = places(keys=[client.keys.prefix], args=some)
            for key, (state, *stands) in zip(some, reply, strict=True):
                out = stands == ["touch"]
                right = len(stands) == 1 and not out if state == "w" else out
                if state not in FINAL and not right:
                    there = " and ".join(stands) or "nowhere"
                    violations.append(f"job {job}: {key} in state {state} stands {there}")
    return violations


def counters_match(client: Client) -> list[str]:
    """The counters of bells out and of waiting transactions equal what is there."""
    flat: Any = client.store.register_script(_COUNTERS)(keys=[client.keys.prefix])
    return [
        f"client {client.name}: counter {field} is {counter}, there are {counted}"
        for field, counter, counted in zip(*[iter(flat)] * 3, strict=True)
    ]


def everything_ended(client: Client, job: str) -> list[str]:
    """Every row that was read has ended: nothing is lost."""
    it = client.ledger.job(job)
    missing = _int(it, "rows") - _int(it, "ended")
    return [f"job {job}: {missing} rows have not ended"] if missing else []


def mostly_succeeded(transactions: Iterable[Transaction], part: float = MOST) -> list[str]:
    """At least this part of the transactions succeeded, so that the run proves something."""
    states = Counter(it.state for it in transactions)
    if states["succeeded"] >= part * states.total():
        return []
    return [f"only {states['succeeded']} of {states.total()} transactions succeeded"]


def at_most_one_effect(effects: Iterable[Record]) -> list[str]:
    """Nothing was done twice: one effect for each method, path and business id."""
    counts = Counter((it["method"], it["path"], it["business_id"]) for it in effects)
    return [
        f"{method} {path} had {count} effects on {name}"
        for (method, path, name), count in counts.items()
        if count > 1
    ]


def effects_match_states(
    transactions: Iterable[Transaction], effects: Iterable[Record]
) -> list[str]:
    """No lies: `succeeded` implies an effect of every step, `failed` none of the one that failed.

    Only `unknown` may be either.
    """
    known = list(transactions)
    done = _by_step(known, effects)
    violations = []
    for it in known:
        if it.state in ("succeeded", "failed", "unknown"):
            must = [k for k in it.writes if it.state == "succeeded" or k < it.step]
            violations += [
                f"{it.key} is {it.state}, but step {k} had no effect"
                for k in must
                if k not in done[it.key]
            ]
        if it.state == "failed":
            violations += [
                f"{it.key} failed at step {it.step}, but step {k} had an effect"
                for k in done[it.key]
                if k >= it.step
            ]
    return violations


def steps_in_order(transactions: Iterable[Transaction], effects: Iterable[Record]) -> list[str]:
    """No step had its effect before the one ahead of it."""
    known = list(transactions)
    done = _by_step(known, effects)
    violations = []
    for it in known:
        moments = [done[it.key].get(k) for k in it.writes]
        for k, (earlier, later) in enumerate(pairwise(moments)):
            if later is not None and (earlier is None or earlier > later):
                violations.append(f"{it.key}: step {it.writes[k + 1]} before step {it.writes[k]}")
    return violations


def one_key_per_transaction(
    transactions: Iterable[Transaction], requests: Iterable[Record]
) -> list[str]:
    """Every request carries the key of a transaction, and what it acts on never sees another."""
    ours = {name for it in transactions for name in _keys_of(it)}
    used, strange = defaultdict[tuple[str, str, str], set[str]](set), Counter[str]()
    for it in requests:
        if it["kind"] == "token":
            continue
        key = it.get("key", "")
        if key not in ours:
            strange[key] += 1
        for name in (*it.get("created", ()), *it.get("updated", ()), *it.get("repeated", ())):
            used[it["method"], it["path"], name].add(key)
    return [
        f"{count} requests under {key or 'no key'}, which no transaction has"
        for key, count in strange.items()
    ] + [
        f"{method} {path} acted on {name} under {len(their)} keys"
        for (method, path, name), their in used.items()
        if len(their) > 1
    ]


def within_limits(report: Record, limits: Iterable[LimitSettings] = ()) -> list[str]:
    """The requests that arrived in any window are within the limit.

    Args:
        report: What the sandbox reports.
        limits: The client's limits. One of the same name as a limit of the sandbox bounds its
            windows by what the governor promises: for a bucket that is more than the count, since
            the burst comes on top.
    """
    promised = {it.name: worst_case(it) for it in limits}
    bounds = [(it, promised.get(it["name"], it["count"])) for it in report["windows"]]
    return [
        f"limit {it['name']}: {it['max_arrived']} requests within {it['window_s']:g} s, "
        f"{most} are allowed"
        for it, most in bounds
        if it["max_arrived"] > most
    ]


def nothing_refused(report: Record) -> list[str]:
    """The provider, which enforces its limits strictly, answered no 429."""
    refused = report["refused_429"]
    return [f"{refused} requests were refused with 429"] if refused else []


def quiet_in_pauses(
    requests: Iterable[Record], retry_after_s: float, reaction_s: float = 0.5
) -> list[str]:
    """No request while a Retry-After runs.

    Args:
        requests: In any order.
        retry_after_s: What each 429 of the run asked for.
        reaction_s: From the arrival of a refused request to the settle that sets the pause, and
            to the arrival of what was granted just before.
    """
    moments = sorted((it["t_us"], it["kind"]) for it in requests if it["kind"] != "token")
    refused_us = [t_us for t_us, kind in moments if kind == "refused"]
    violations = []
    for t_us, _ in moments:
        # The newest refusal that everybody has heard of reaches farthest.
        before = bisect_left(refused_us, t_us - reaction_s * 1e6)
        left_s = (refused_us[before - 1] - t_us) / 1e6 + retry_after_s if before else 0.0
        if left_s > 0:
            violations.append(f"a request {left_s:.3f} s before the end of a pause")
    return violations


def transactions(client: Client, job: str) -> Iterator[Transaction]:
    """The released transactions of a job, for the invariants that need the journal."""
    about = client.ledger.about(job)
    kind = KINDS[about["kind"]]
    for page in range(_int(client.ledger.job(job), "opened")):
        for row, key, _, tx in _looked_up(client, job, page, _page(client, job, page) or []):
            if "joins" not in row:
                planned = kind.plan(row, about, client.settings)
                yield Transaction(
                    key=key,
                    state=tx["s"],
                    step=int(tx["k"] or 1),
                    routes=tuple(it.route for it in planned),
                    guards="".join(it.guard for it in planned),
                )


def _page(client: Client, job: str, page: int) -> list[Row] | None:
    try:
        return client.ledger.page(job, page)
    except (TypeError, ValueError, zlib.error):  # not there, no JSON, no page
        return None


def _looked_up(
    client: Client, job: str, page: int, rows: list[Row]
) -> Iterator[tuple[Row, str, str, dict[str, str]]]:
    """Good rows of an opened page: row, derived key, place, and the transaction of this key."""
    # Read, never made: a look must not give an installation a new secret.
    secret = client.store.get(keys.installation(client.fleet.store.namespace)) or ""
    good = [(index, row) for index, row in enumerate(rows) if "error" not in row]
    names = [
        identity.idempotency_key(bytes.fromhex(str(secret)), client.name, job, row["id"])
        for _, row in good
    ]
    pipe = client.store.pipeline(transaction=False)
    for name in names:
        pipe.hmget(client.keys.transaction(name), "s", "k", "j", "p")
    for (index, row), name, values in zip(good, names, pipe.execute(), strict=True):
        found = dict(zip("skjp", (it or "" for it in values), strict=True))
        yield row, name, f"{page}:{index}", found


def _int(job: Mapping[str, str], field: str) -> int:
    return int(job.get(field, 0))


def _keys_of(it: Transaction) -> list[str]:
    """The key of the transaction, and those of its steps, for providers that want them apart."""
    return [it.key, *(identity.step_key(it.key, k) for k in range(1, len(it.routes) + 1))]


def _by_step(
    known: Iterable[Transaction], effects: Iterable[Record]
) -> defaultdict[str, dict[int, int]]:
    """For each key: step → position of its first effect in the journal.

    The step is told by its own key, else by its route; among steps of one route they count in
    order.
    """
    of_key = {name: (it, k) for it in known for k, name in enumerate(_keys_of(it))}
    done: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for effect in effects:
        it, step = of_key.get(effect["key"], (None, 0))
        if it is None:
            continue
        if not step:
            call = f"{effect['method']} {effect['path']}"
            fitting = [k for k, route in enumerate(it.routes, 1) if _pattern(route).match(call)]
            fresh = [k for k in fitting if k not in done[it.key]]
            step = (fresh or fitting or [0])[0]
        done[it.key].setdefault(step, effect["seq"])
    return done


@lru_cache(maxsize=4096)
def _pattern(route: str) -> re.Pattern[str]:
    """What the calls of a route look like at the provider: any base path, no query."""
    method, _, path = route.partition("?")[0].partition(" ")
    places = [re.escape(it) for it in REFERENCE.sub("\0", path).split("\0")]
    return re.compile(f"{method} .*{'[^/]+'.join(places)}$")
