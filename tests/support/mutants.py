"""Lines broken on purpose: with any of them the tests that it names must turn red.

A mutant is a small exact replacement, and its text stands once in its file; a test holds that. The
tests that it names are the fastest files that catch it, so that `make chaos` runs no others.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final, NamedTuple

#: A folder or file of the product → the room whose lines stand there.
ROOMS: Final = {
    "workers/lua": "scripts",
    "workers/governor": "governor",
    "tasks": "steps",
    "workers/answer": "answer",
    "workers/http": "http",
    "workers/auth": "auth",
    "workers/ledger": "ledger",
    "workers/session": "session",
    "workers/broker": "broker",
    "orchestration/intake": "intake",
    "orchestration/dispatch": "dispatch",
    "orchestration/views": "views",
    "orchestration/operate": "operate",
    "orchestration/sandbox": "sandbox",
}


class Mutant(NamedTuple):
    """One broken line."""

    name: str
    file: str
    old: str
    new: str
    tests: str  #: what catches it, files of tests or single ones, spaces between

    @property
    def room(self) -> str:
        """Where in the product it stands."""
        path = PurePosixPath(self.file)
        return next(room for top, room in ROOMS.items() if path.is_relative_to(top))


_SCRIPTS: Final = (
    Mutant(
        "a 401 to all holds nobody",
        "workers/lua/includes/evidence.lua",
        "run >= (is_token and OPEN_TOKEN_AFTER or OPEN_AFTER)",
        "run >= OPEN_AFTER",
        "tests/scripts/test_outage.py",
    ),
    Mutant(
        "an open breaker lets all go",
        "workers/lua/admit.lua",
        "if probe and probe_from > now then return back(probe_from - now) end",
        "",
        "tests/scripts/test_breaker.py",
    ),
    Mutant(
        "later sends open a scope",
        "workers/lua/includes/evidence.lua",
        "(answer.is_first and 1 or 0)",
        "1",
        "tests/scripts/test_outage.py",
    ),
    Mutant(
        "an outage spends attempts",
        "workers/lua/includes/evidence.lua",
        "return good * 3 >= others and 1 or 0",
        "return ATTEMPT",
        "tests/scripts/test_outage.py",
    ),
    Mutant(
        "rows end while their scope is held",
        "workers/lua/includes/giving_up.lua",
        "if is_held or verdict.evidence",
        "if verdict.evidence",
        "tests/scripts/test_outage.py",
    ),
    Mutant(
        "what nothing guards probes first",
        "workers/lua/includes/probers.lua",
        'may_be_unguarded or guard_of(tx.guards, tx.step) ~= "n"',
        "true",
        "tests/scripts/test_outage.py",
    ),
    Mutant(
        "what nothing guards looks at no other tenant",
        "workers/lua/includes/probers.lua",
        "if may_go and not (may_be_unguarded and is_guarded_waiting(scope)) then",
        "if may_go then",
        "tests/scripts/test_outage.py",
    ),
    Mutant(
        "charge after send",
        "workers/lua/admit.lua",
        'redis.call("HSET", GOV, unpack(writes))',
        "-- charged by nobody before the send",
        "tests/scripts/test_scripts.py::test_a_call_is_charged_to_all_its_limits",
    ),
    Mutant(
        "settle without fence",
        "workers/lua/settle.lua",
        "or fence ~= ARGV[4] then",
        "then",
        "tests/scripts/test_scripts.py::test_a_late_settle_after_a_take_over_is_void",
    ),
    Mutant(
        "bell without due time",
        "workers/lua/includes/bells.lua",
        'if #deadlines > 0 then redis.call("ZADD", DEADLINES, unpack(deadlines)) end',
        "-- nobody will miss it",
        "tests/scripts/test_scripts.py::test_an_unanswered_bell_is_given_back_and_then_dropped",
    ),
    Mutant(
        "send again without a look",
        "workers/lua/sweep.lua",
        'if guard == "l" and not looks(sent.memo) then',
        'if guard == "never" then',
        "tests/scripts/test_lookups.py::test_after_its_worker_died_under_a_send_a_step_is_looked_up_at_once",
    ),
    Mutant(
        "a dead worker's send without a guard goes again",
        "workers/lua/sweep.lua",
        'if guard == "n" then return "sent, then "',
        'if guard == "never" then return "sent, then "',
        "tests/scripts/test_scripts.py::test_an_expired_lease_without_a_guard_ends_unknown",
    ),
    Mutant(
        "keys never grow old",
        "workers/lua/admit.lua",
        "now - tonumber(first_sent_us) > tonumber(ARGV[6])",
        "false",
        "tests/scripts/test_rotation.py",
    ),
    Mutant(
        "a fresh key for what may have been executed",
        "workers/lua/rotate.lua",
        'if tx.maybe_executed == "1" then',
        "if false then",
        "tests/scripts/test_rotation.py",
    ),
    Mutant(
        "a fresh key at once",
        "workers/lua/rotate.lua",
        "if quiet > now then",
        "if false then",
        "tests/scripts/test_rotation.py",
    ),
    Mutant(
        "a wait that is over at once",
        "workers/lua/includes/backlog.lua",
        'redis.call("ZADD", backlog_key(flow) .. ":due", due, key)',
        'redis.call("ZADD", backlog_key(flow) .. ":due", now, key)',
        "tests/scripts/test_rotation.py",
    ),
    Mutant(
        "a lost bucket is full",
        "workers/lua/includes/bucket.lua",
        "is_route(bucket) and now or now + bucket[INTERVAL] * bucket[BURST], now)",
        "now, now)",
        "tests/scripts/test_scripts.py::test_a_limit_that_lost_its_state_grants_nothing_and_starts_empty",
    ),
    Mutant(
        "the reserve is for all lanes",
        "workers/lua/includes/bucket.lua",
        "return lane == 0 and free or free - bucket[RESERVE]",
        "return free",
        "tests/scripts/test_scripts.py::test_the_reserve_of_a_burst_is_for_urgent_calls_and_no_part_of_the_rate",
    ),
    Mutant(
        "places are never freed",
        "workers/lua/includes/bucket.lua",
        'add_to(GOV, "l:" .. name, -1)',
        'add_to(GOV, "l:" .. name, 0)',
        "tests/scripts/test_scripts.py::test_no_more_calls_are_out_than_a_limit_has_places_and_their_end_frees_them",
    ),
    Mutant(
        "tenants without weight",
        "workers/lua/ring.lua",
        "tenant.pass = tenant.pass + tenant.stride",
        "tenant.pass = tenant.pass + 1",
        "tests/scripts/test_scripts.py::test_tenants_share_by_weight",
    ),
    Mutant(
        "a batch counts as one row",
        "workers/lua/includes/ending.lua",
        "{JOB[state], (tonumber(in_state) or 0) + rows,",
        "{JOB[state], (tonumber(in_state) or 0) + 1,",
        "tests/scripts/test_scripts.py::test_joined_rows_end_as_the_first_before_and_after_its_end",
    ),
    Mutant(
        "a shorter pause ends a longer one",
        "workers/lua/includes/pause.lua",
        "if till > full then",
        "if true then",
        "tests/scripts/test_scripts.py::test_a_pause_never_shortens_a_longer_one",
    ),
    Mutant(
        "a countdown that nobody watches",
        "workers/lua/includes/result.lua",
        'redis.call("ZADD", DEADLINES, due + grace, key)',
        "-- Celery never loses a message",
        "tests/scripts/test_scripts.py::test_a_countdown_whose_message_was_lost_goes_to_the_line",
    ),
    Mutant(
        "a replay sends what nothing guards",
        "workers/lua/replay.lua",
        'if doubt and guard == "n" then return "UNSURE" end',
        "-- the person will know",
        "tests/scripts/test_replay.py",
    ),
    Mutant(
        "a page is opened twice",
        "workers/lua/open.lua",
        "if job.next_page ~= page then return 0 end",
        "-- whoever comes opens it",
        "tests/scripts/test_scripts.py::test_a_page_that_is_opened_twice_is_released_once",
    ),
    Mutant(
        "a page is accepted twice",
        "workers/lua/accept.lua",
        'if pages ~= page or job.started == "1" then return pages end',
        "-- it is stored once more",
        "tests/scripts/test_scripts.py::test_a_page_that_is_accepted_twice_is_stored_and_counted_once",
    ),
    Mutant(
        "halves of what may have been executed are sent as new",
        "workers/lua/split.lua",
        "write(TX.maybe_executed, tx.maybe_executed)",
        "write(TX.maybe_executed, nil)",
        "tests/scripts/test_split.py",
    ),
    Mutant(
        "the next step is compared with the one before",
        "workers/lua/includes/result.lua",
        'if sent_digest then write(TX.sent_digest, "") end',
        "-- as it was",
        "tests/unit/tasks/test_same_request.py",
    ),
    Mutant(
        "a task's write never grows old",
        "workers/lua/begin_write.lua",
        "if age > tonumber(ARGV[5]) or age",
        "if age",
        "tests/unit/tasks/test_governed_keys.py",
    ),
    Mutant(
        "a refused token is handed on",
        "workers/lua/token_look.lua",
        "token and generation ~= refused and",
        "token and",
        "tests/fleet/test_tokens.py::test_after_a_refusal_the_token_is_renewed_once_however_many_report_it",
    ),
    Mutant(
        "leases of permits not moved by a clock that is set back",
        "workers/lua/clock_rollback.lua",
        "move_keys(PERMITS)",
        "-- they end when that time comes again",
        "tests/scripts/test_clocks.py::test_a_permit_ends_when_it_was_to_end_although_the_clock_was_set_back",
    ),
    Mutant(
        "a late answer of an older grant is recorded",
        "workers/lua/includes/late.lua",
        "if swept_fence ~= fence or tx.fence ~= fence or tx.step ~= step then return nil end",
        "if not swept_fence then return nil end",
        "tests/scripts/test_late.py",
    ),
    Mutant(
        "the sweep stops at a transaction that cannot be read",
        "workers/lua/sweep.lua",
        "local why, unknown_flow = find_damage(key)",
        "local why, unknown_flow",
        "tests/scripts/test_damage.py::test_a_damaged_key_stops_none_of_the_other_transactions",
    ),
    Mutant(
        "nobody sweeps where no worker runs",
        "workers/lua/acquire.lua",
        'if is_overdue(DEADLINES) then return {"SWEEP", 0} end',
        "-- somebody else will",
        "tests/scripts/test_limiter.py::test_what_dead_workers_left_out_holds_back_no_session",
    ),
)

_WORKERS: Final = (
    Mutant(
        "a grant is young when its answer comes",
        "workers/governor/governor.py",
        "Grant.from_reply(reply, asked=asked,",
        "Grant.from_reply(reply, asked=asked._replace(at_ns=now_ns()),",
        "tests/scripts/test_slow_store.py",
    ),
    Mutant(
        "an answer is given up when the store is away",
        "workers/governor/governor.py",
        "if now_ns() > give_up_ns:",
        "if give_up_ns:",
        "tests/scripts/test_slow_store.py",
    ),
    Mutant(
        "a grant outlives its lease",
        "workers/governor/grants.py",
        "min(start_us + spread_us, self.margin_us)",
        "(start_us + spread_us)",
        "tests/scripts/test_slow_store.py",
    ),
    Mutant(
        "a 5xx was surely not executed",
        "workers/answer/outcome.py",
        "_FAILED: Final = (Outcome.UNKNOWN,",
        "_FAILED: Final = (Outcome.NOT_EXECUTED,",
        "tests/unit/answer/test_outcome.py",
    ),
    Mutant(
        "a 4xx after an unknown attempt proves something",
        "workers/answer/outcome.py",
        "if earlier_unknown and reading.next is Next.REFUSED:",
        "if False:",
        "tests/unit/answer/test_outcome.py",
    ),
    Mutant(
        "jitter comes off the wait",
        "workers/answer/backoff.py",
        "return retry_after_s + rng.uniform(0.0, base_s)",
        "return retry_after_s - rng.uniform(0.0, base_s)",
        "tests/unit/answer/test_backoff.py",
    ),
    Mutant(
        "a wait is believed however long",
        "workers/answer/backoff.py",
        "return min(float(value), cap_s)",
        "return float(value)",
        "tests/unit/answer/test_backoff.py",
    ),
    Mutant(
        "a look-up that found nothing ends the doubt",
        "workers/answer/guards.py",
        "unknown or (guard is Guard.LOOKUP and attempts > 0)",
        "unknown",
        "tests/unit/answer/test_guards.py",
    ),
    Mutant(
        "what nothing guards is sent again",
        "workers/answer/judging.py",
        "if self.state.guard is Guard.NONE:",
        "if self.state.guard is None:",
        "tests/unit/answer/test_guards.py",
    ),
    Mutant(
        "the roomiest quota counts",
        "workers/answer/quota_headers.py",
        "key=lambda quota: (quota.remaining,",
        "key=lambda quota: (-quota.remaining,",
        "tests/unit/answer/test_quota_headers.py",
    ),
    Mutant(
        "a stale grant is used",
        "workers/http/connection.py",
        "if late_ns > 0:",
        "if late_ns > 10**15:",
        "tests/unit/http/test_connection.py::test_a_stale_grant_sends_nothing_and_leaves_the_connection_in_the_pool",
    ),
    Mutant(
        "a half-read connection goes back into the pool",
        "workers/http/connection.py",
        "if connection.usable and len(self._idle)",
        "if len(self._idle)",
        "tests/unit/http/test_connection.py::test_an_answer_is_read_to_its_end_and_only_a_clean_connection_is_used_again",
    ),
    Mutant(
        "a quoted way upwards",
        "workers/settings/values.py",
        'if _CLIMBS.search(unquote(path.partition("?")[0])):',
        'if _CLIMBS.search(path.partition("?")[0]):',
        "tests/unit/http/test_connection.py::test_a_request_line_that_could_smuggle_something_cannot_be_built",
    ),
    Mutant(
        "a file that changed is sent",
        "workers/http/transfer.py",
        " or md5.hexdigest() != file.md5:",
        ":",
        "tests/unit/http/test_transfer.py",
    ),
    Mutant(
        "a token that replaces a refused one is not trusted",
        "workers/lua/token_refuse.lua",
        "local renewed = now - asked >= trust",
        "local renewed = now - asked >= 0 * trust",
        "tests/fleet/test_tokens.py::test_a_token_that_replaces_a_refused_one_is_trusted_for_a_second",
    ),
    Mutant(
        "a token that another secret can read",
        "workers/auth/token_store.py",
        "return kdf.derive(",
        "return kdf.derive(b'' and ",
        "tests/fleet/test_tokens.py::test_a_changed_secret_is_picked_up_and_its_tokens_stay_apart",
    ),
    Mutant(
        "random key",
        "workers/ledger/identity.py",
        'hmac.digest(secret, names, "sha256")[:16]',
        'hmac.digest(secrets.token_bytes(32), names, "sha256")[:16]',
        "tests/unit/docs/test_doctests.py",
    ),
    Mutant(
        "all steps have one key",
        "workers/ledger/identity.py",
        'return str(uuid.uuid5(uuid.UUID(key), f"step {step}"))',
        'return str(uuid.uuid5(uuid.UUID(key), "step"))',
        "tests/unit/tasks/test_same_request.py",
    ),
    Mutant(
        "halves that overlap",
        "workers/ledger/batch.py",
        "first = Place(place.page, place.index, place.first, middle)",
        "first = Place(place.page, place.index, place.first, middle + 1)",
        "tests/unit/intake/test_packing.py",
    ),
    Mutant(
        "a permit is young when its answer comes",
        "workers/session/limiter.py",
        "self._leases.stale_at_ns(asked_ns,",
        "self._leases.stale_at_ns(now_ns(),",
        "tests/scripts/test_slow_store.py",
    ),
    Mutant(
        "a session repeats a call without an answer",
        "workers/session/adapter.py",
        "elif not answer.sent:",
        "elif answer.status is None:",
        "tests/fleet/test_session.py::test_an_answer_that_is_lost_is_never_asked_for_again",
    ),
    Mutant(
        "what a task sent is forgotten with each hold",
        "workers/lua/forget_write.lua",
        'if not known or string.find(known, " again$") then return 0 end',
        "if not known then return 0 end",
        "tests/unit/tasks/test_governed_keys.py",
    ),
    Mutant(
        "no string is garbage",
        "workers/broker/transport.py",
        "if queue.endswith(CONTROL_QUEUE) or is_task_message(text):",
        "if True:",
        "tests/fleet/test_transport.py::test_no_string_ends_a_worker_or_keeps_it_from_its_tasks",
    ),
    Mutant(
        "a moment of any type",
        "workers/broker/transport.py",
        "    eta: _Moment | None = None",
        "    eta: Any = None",
        "tests/fleet/test_transport.py::test_what_a_worker_cannot_take_is_told_from_a_task",
    ),
    Mutant(
        "bell of any kind",
        "workers/lua/includes/asker.lua",
        'if kind == "" then return true end',
        "if true then return true end",
        "tests/scripts/test_askers.py",
    ),
    Mutant(
        "bell in any pool",
        "workers/lua/includes/asker.lua",
        "return pool_of(limits) == does and",
        "return",
        "tests/scripts/test_askers.py",
    ),
    Mutant(
        "names of any type",
        "tasks/steps/bell.py",
        "if not more and type(step) is int",
        "if not more",
        "tests/unit/tasks/test_bell.py",
    ),
    Mutant(
        "queues without a namespace",
        "workers/broker/names.py",
        'return f"{namespace}.{pool}"',
        "return pool",
        "tests/unit/broker/test_names.py",
    ),
    Mutant(
        "control that nobody signed",
        "workers/broker/control.py",
        "self.mailbox.signer.require_signed(command)",
        "pass",
        "tests/fleet/test_forged.py::test_no_broadcast_of_a_stranger_changes_a_worker",
    ),
    Mutant(
        "signature taken twice",
        "workers/broker/signing.py",
        "if nonce in self._taken:",
        "if not nonce:",
        "tests/unit/broker/test_signing.py",
    ),
    Mutant(
        "signature from before a restart",
        "workers/broker/signing.py",
        "if signed_s < self._started_s or",
        "if",
        "tests/unit/broker/test_signing.py",
    ),
)

_STEPS: Final = (
    Mutant(
        "another request under the same key",
        "tasks/steps/outgoing.py",
        "or self.digest(granted) == grant.sent_digest:",
        "or self.key:",
        "tests/unit/tasks/test_same_request.py",
    ),
    Mutant(
        "a look-up carries the key of the send",
        "tasks/steps/outgoing.py",
        "if grant.looking or plan.guard is Guard.READ or request.method in READS:",
        "if plan.guard is Guard.READ:",
        "tests/unit/tasks/test_same_request.py",
    ),
    Mutant(
        "a fresh key is not used",
        "tasks/steps/detours.py",
        "if grant.generation == 1:",
        "if grant.generation:",
        "tests/unit/tasks/test_same_request.py",
    ),
    Mutant(
        "the last part is left out",
        "tasks/steps/reading.py",
        "if granted.grant.part + 1 < granted.plan.parts:",
        "if granted.grant.part + 2 < granted.plan.parts:",
        "tests/unit/tasks/test_reading.py",
    ),
    Mutant(
        "a local step goes back without end",
        "tasks/steps/local.py",
        'case "back" if _may_go_back(grant, policy.max_retries):',
        'case "back":',
        "tests/unit/tasks/test_local.py",
    ),
    Mutant(
        "a chain goes on although its step waits",
        "tasks/steps/call.py",
        "request.chain = request.callbacks = None",
        "request.callbacks = None",
        "tests/unit/tasks/test_chain.py",
    ),
)

_ORCHESTRATION: Final = (
    Mutant(
        "a repeated id with another payload joins",
        "orchestration/intake/check.py",
        "if first.payload == payload:",
        "if first.payload:",
        "tests/unit/intake/test_accept.py::test_a_repeated_row_joins_the_first_and_another_payload_is_rejected",
    ),
    Mutant(
        "a batch is one row too long",
        "orchestration/intake/spool.py",
        "len(self._batch) < self._packing.rows and",
        "len(self._batch) <= self._packing.rows and",
        "tests/unit/intake/test_packing.py",
    ),
    Mutant(
        "a full store takes more",
        "orchestration/intake/accept.py",
        "if most and left <= needed:",
        "if most and left is None:",
        "tests/unit/intake/test_accept.py::test_a_store_that_is_nearly_full_accepts_nothing",
    ),
    Mutant(
        "weak guards on a store that forgets",
        "orchestration/intake/check.py",
        "if weak and not are_taken():",
        "if weak and not weak:",
        "tests/unit/intake/test_accept.py::test_calls_without_a_guard_are_refused_where_the_store_may_forget_a_second",
    ),
    Mutant(
        "the chain of a bell runs backwards",
        "orchestration/dispatch/publisher.py",
        "for step in range(bell.steps, bell.step, -1)",
        "for step in range(bell.step + 1, bell.steps + 1)",
        "tests/unit/dispatch/test_publisher.py",
    ),
    Mutant(
        "a bell of an unknown kind is lost",
        "orchestration/dispatch/dispatcher.py",
        "            for bell in unknown:\n",
        "            for bell in unknown[:0]:\n",
        "tests/fleet/test_dispatcher.py::test_bells_of_a_kind_that_only_a_newer_release_knows_go_back_to_their_backlog",
    ),
    Mutant(
        "a cell that a spreadsheet runs",
        "orchestration/views/report.py",
        'return f"\'{shown}" if value.startswith(_FORMULA) else shown',
        "return shown",
        "tests/unit/intake/test_report.py",
    ),
    Mutant(
        "rows in flight wait too",
        "orchestration/views/progress.py",
        "return self.rows - self.ended - self.in_flight",
        "return self.rows - self.ended",
        "tests/unit/cli/test_progress.py",
    ),
    Mutant(
        "doctor does not recount",
        "orchestration/views/invariants.py",
        "if ended != after.ended:",
        "if ended < 0:",
        "tests/unit/cli/test_doctor.py",
    ),
    Mutant(
        "a backup of tomorrow",
        "orchestration/operate/recovery.py",
        "if since_us > now_us:",
        "if since_us < 0:",
        "tests/unit/cli/test_recover.py",
    ),
    Mutant(
        "live limits forget what was set before",
        "orchestration/operate/limits.py",
        "override = Override({**earlier, **values},",
        "override = Override({**values},",
        "tests/scripts/test_live.py",
    ),
    Mutant(
        "a key stands for any body",
        "orchestration/sandbox/idempotency.py",
        "if first.body_hash != body_hash:",
        "if not first.body_hash:",
        "tests/sandbox/test_sandbox_idempotency.py",
    ),
    Mutant(
        "a sliding window that forgets early",
        "orchestration/sandbox/quota/meters.py",
        "self._times_us[0] + self._window_us <= now_us:",
        "self._times_us[0] + self._window_us // 2 <= now_us:",
        "tests/sandbox/test_sandbox_limits.py",
    ),
    Mutant(
        "the journal counts too few calls in a window",
        "orchestration/sandbox/journal/windows.py",
        "most = max(most, last - first + 1)",
        "most = max(most, last - first)",
        "tests/sandbox/test_sandbox_api.py",
    ),
)

MUTANTS: Final = (*_SCRIPTS, *_WORKERS, *_STEPS, *_ORCHESTRATION)
