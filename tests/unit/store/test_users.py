"""Each user of the containers' servers may do what its processes do, and nothing of the others."""

from __future__ import annotations

import ast
import re
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis
from celery import Celery
from kombu import Queue

from orchestration.dispatch.publisher import publish
from tests.support import store_users
from tests.support.fleet import until
from tests.support.source import lua_files, modules
from workers.broker import names, transport
from workers.broker.control import signed_control
from workers.errors import StoreAway
from workers.governor.flows import POOLS
from workers.governor.grants import Bell
from workers.settings.load import StoreSettings
from workers.store.connection import Store, connect, require_durable
from workers.store.keys import ClientKeys
from workers.store.scripts import Scripts, library, load

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = "headgate:{acme}:x"
#: The channel on which workers are woken.
WAKE: Final = "headgate:wake"
#: Methods of `redis.Redis` that are not called as their commands are, and what these are.
SPELT: Final[dict[str, set[str]]] = {
    "zscan_iter": {"zscan"},
    "zrange": {"zrange", "zrevrange"},  # by `desc`
    "delete": {"del"},
    "pipeline": {"multi", "exec"},
    "pubsub": {"subscribe", "unsubscribe"},
    "close": set(),
    "set_response_callback": set(),
}
#: Modules that speak to other servers, or as other users.
ELSEWHERE: Final = (
    "workers.store.embedded", "workers.store.keeper",
    "workers.broker.transport", "workers.broker.bindings", "workers.broker.popping",
)  # fmt: skip
#: What only a process does that may, or that was not told the answer.
NOT_SENT: Final = {"config get", "function load"}
#: Functions of Lua that hand a command on.
LUA_WRAPPER: Final = re.compile(r"local function (\w+)\(\.\.\.\)")
REFUSAL: Final = r"(?i)NoPermission|no permissions"
#: Tried with arguments that would do something.
FORBIDDEN: Final = [
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET appendonly no", "KEYS *", "SCAN 0",
    "EVAL return(1) 0", "SHUTDOWN NOSAVE", "ACL LIST", "ACL WHOAMI", "SAVE",
    "CLIENT LIST", "MONITOR", "REPLICAOF NO ONE", "MODULE LIST", "FUNCTION FLUSH", "SWAPDB 0 1",
    "FUNCTION LOAD x", "SCRIPT FLUSH", "GET other", "SET other 1", "PUBLISH other 1",
    "RENAME headgate.calls x", "LPUSH other.calls 1", "LPUSH calls 1", "PUBLISH /0.other.pidbox 1",
    "GET other:kombu.unacked", "BGREWRITEAOF", "SCRIPT LOAD return(1)", "SCRIPT KILL",
    "EVALSHA 0000000000000000000000000000000000000000 0", "FUNCTION KILL", "FUNCTION DELETE x",
]  # fmt: skip
#: Each one's alone: what another one may.
FORBIDDEN_FOR: Final = {
    "headgate": [
        "LPUSH headgate.calls 1",
        "BRPOP headgate.media 1",
        "PUBLISH /0.headgate.pidbox 1",
    ],
    "broker": [
        "HGETALL headgate:installation",
        "FCALL x 1 headgate:{acme}:",
        "DEL headgate:registry",
    ],
    "flower": ["HGETALL headgate:installation", "FCALL x 1 headgate:{acme}:", "DEL headgate.calls"],
}
RECEIVER: Final = re.compile(r"(store|pipe|client|broker)$")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with the users of its file, as somebody who may do everything."""
    with store_users.serve(tmp_path_factory.mktemp("users")) as store:
        yield store


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The same of a broker."""
    with store_users.serve(tmp_path_factory.mktemp("broker"), "broker") as it:
        yield it


@pytest.fixture
def port(server: Store) -> int:
    """Where the store listens; its log of refusals is empty."""
    return forget_refusals(server)


@pytest.fixture
def broker_port(broker: Store) -> int:
    """Where the broker listens; its log of refusals is empty."""
    return forget_refusals(broker)


def forget_refusals(server: Store) -> int:
    """Empty a server's log of refusals; returns its port."""
    server.execute_command("ACL", "LOG", "RESET")
    return int(server.connection_pool.connection_kwargs["port"])


def commands_of_scripts() -> set[str]:
    """Every command that a script of the library gives."""
    found = set[str]()
    for file in lua_files():
        text = file.read_text("utf-8")
        by = "|".join([r"redis\.p?call", *LUA_WRAPPER.findall(text)])
        found |= {name.lower() for name in re.findall(rf"\b(?:{by})\(\s*\"(\w+)\"", text)}
    return found


def commands_of_code() -> set[str]:
    """Every command that Python sends to the store by the client's methods, or by its name."""
    found = set[str]()
    for name, module in modules().items():
        if name.startswith(("workers", "tasks", "orchestration")) and name not in ELSEWHERE:
            calls = (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))
            found |= {command for call in calls for command in commands_of(call)}
    return found


def commands_of(call: ast.Call) -> set[str]:
    """The commands that a call may send."""
    if not isinstance(call.func, ast.Attribute):
        return set()
    method, on = call.func.attr, ast.unparse(call.func.value).rpartition(".")[2]
    if not RECEIVER.search(on) or not (method == "ask" or hasattr(redis.Redis, method)):
        return set()
    if method in {"execute_command", "ask"}:
        words = [str(it.value) for it in call.args[:2] if isinstance(it, ast.Constant)]
        return {" ".join(words[: 2 if words[:1] == ["FUNCTION"] else 1]).lower()} - {""}
    return SPELT.get(method, {method.replace("_", " ")})


def may(server: Store, user: str, command: str, key: str = KEY) -> bool:
    """Whether the server would let a user give this command with this key."""
    words = command.split()
    arity = abs(server.ask("COMMAND", "INFO", "|".join(words))[0][1])
    before = ["name", "1"] if words[0] in {"fcall", "evalsha"} else []
    if words[0] in {"publish", "subscribe"} and key == KEY:
        before = [WAKE]
    args = [*before, *[key] * (arity - len(words) - len(before))]
    answer = server.execute_command("ACL", "DRYRUN", user, *words, *(args or []))
    return bool(answer == "OK")


def test_the_ledgers_user_may_give_every_command_of_the_scripts_and_of_the_code(
    server: Store,
) -> None:
    scripts, code = commands_of_scripts(), commands_of_code() - NOT_SENT
    assert {"hset", "rename", "lpos"} <= scripts  # what the search finds
    assert {"hgetall", "zscan", "zmscore", "fcall"} <= code | {"fcall"}

    sent = sorted(scripts | code | {"fcall"})

    assert [command for command in sent if not may(server, "headgate", command)] == []


def test_nothing_is_allowed_that_nothing_needs(server: Store) -> None:
    del server
    needed = commands_of_scripts() | commands_of_code() | {"fcall", "multi", "exec"}
    of_connections = {"ping", "hello", "auth", "select"}

    rules = store_users.lines("store")["headgate"]
    given = {it[1:].replace("|", " ") for it in rules if it[0] == "+"}

    assert given - needed - of_connections == set()


def no_secret() -> bytes:
    """What signs and checks changes of a worker is in the ledger, which these users do not see."""
    raise StoreAway("there is no ledger here")


def app_as(user: str, port: int) -> Celery:
    """An application whose broker is the server, for this user."""
    transport.install()
    app = Celery("users", set_as_current=False, control=signed_control(no_secret))
    url = store_users.url_as(user, port)
    app.conf.update(
        **transport.broker_settings(url, names.key_options("headgate")),
        **names.name_settings("headgate"),
    )
    return app


def take(app: Celery, queue: str) -> Any:
    """The next message of a queue, taken as a worker does."""
    taken = []
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        channel.count_free = lambda: 5  # threads
        bells = Queue(queue, channel)
        with connection.Consumer(
            [bells], callbacks=[lambda body, _: taken.append(body)], no_ack=True
        ):
            connection.drain_events(timeout=5)
    return taken[0]


@pytest.mark.parametrize("pool", POOLS)
def test_the_brokers_user_carries_the_bells_of_every_pool(
    broker: Store, broker_port: int, pool: str
) -> None:
    app = app_as("broker", broker_port)

    publish(app, "headgate", "acme", [("a.task", Bell("a-key", 1, 1, "job", pool))])
    names_of_step, *_ = take(app, names.queue_of("headgate", pool))

    assert names_of_step == ["acme", "a-key", 1]
    assert store_users.refused(broker) == []


@contextmanager
def answering(app: Celery) -> Iterator[None]:
    """What answers pings on the broker as a worker does, and sends an event now and then."""
    ended = threading.Event()

    def work() -> None:
        with app.connection_for_read() as connection, app.events.Dispatcher(connection) as events:
            node = app.control.mailbox.Node("w1@here", channel=connection.channel())
            node.handlers |= dict.fromkeys(("ping", "heartbeat"), lambda *_, **__: {"ok": "pong"})
            with node.Consumer(callbacks=[node.handle_message]):
                while not ended.is_set():
                    events.send("worker-online")
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("user", ["broker", "flower"])
def test_who_asks_a_worker_gets_its_answer_and_hears_its_events(
    broker: Store, broker_port: int, user: str
) -> None:
    app = app_as(user, broker_port)
    with answering(app_as("broker", broker_port)), app.connection_for_read() as connection:
        listener = app.events.Receiver(connection)
        listener.handlers = {"worker-online": lambda _: setattr(listener, "should_stop", True)}
        listener.capture(timeout=5)  # it raises when it hears nothing
        until(lambda: app.control.ping(timeout=1, limit=1), 10, "a pong")

    assert store_users.refused(broker) == []


def test_flower_sees_how_long_the_queues_are_and_takes_and_puts_nothing(
    broker: Store, broker_port: int
) -> None:
    broker.rpush("headgate.calls", "a bell")
    with connect(store_users.url_as("flower", broker_port)) as flower:
        assert flower.llen("headgate.calls") == 1
        for command in ("RPOP headgate.calls", "LPUSH headgate.media x", f"HGETALL {KEY}"):
            with pytest.raises(StoreAway, match=REFUSAL):
                flower.execute_command(*command.split())
    assert broker.delete("headgate.calls") == 1


def test_the_admin_loads_what_the_ledgers_user_then_calls_and_may_not_load(
    server: Store, port: int
) -> None:
    server.function_flush()
    with (
        connect(store_users.url_as("headgate", port)) as store,
        connect(store_users.url_as("admin", port)) as admin,
    ):
        scripts = Scripts(store, ClientKeys("headgate", "acme"), None)
        with pytest.raises(StoreAway, match=r"this user may not load them: give `headgate deploy`"):
            scripts("define", "0")
        server.execute_command("ACL", "LOG", "RESET")

        for _ in range(2):  # the second time it is there, which is as good
            load(admin, *library())
        scripts("define", "0")

        with pytest.raises(StoreAway, match=REFUSAL):
            admin.get("headgate:installation")
    assert {entry["username"] for entry in store_users.refused(server)} == {"admin"}


@pytest.mark.parametrize("user", ["headgate", "broker", "flower"])
def test_no_user_of_a_process_that_runs_may_do_anything_else(
    port: int, broker_port: int, user: str
) -> None:
    with connect(store_users.url_as(user, port if user == "headgate" else broker_port)) as store:
        assert store.ping()
        for command in FORBIDDEN + FORBIDDEN_FOR[user]:
            with pytest.raises(StoreAway, match=REFUSAL):
                store.execute_command(*command.split())


@pytest.mark.parametrize("role", ["store", "broker"])
def test_no_user_of_any_server_brings_a_script_of_its_own(role: store_users.Role) -> None:
    """An endless one would stop that server for everybody; `admin` may end one that is stuck."""
    running = re.compile(r"\+(@\w+|eval\w*|script(\|(load|flush|debug))?|function)$")

    given = {(user, it) for user, all_of in store_users.lines(role).items() for it in all_of}

    assert {(user, it) for user, it in given if running.match(it) and user != "default"} == set()


def test_the_admin_ends_a_script_that_is_stuck(server: Store, port: int) -> None:
    stuck = threading.Thread(target=run_for_ever, args=(port,))
    server.config_set("busy-reply-threshold", 1)
    stuck.start()
    with connect(store_users.url_as("admin", port)) as admin:
        until(lambda: killed(admin), 10, "the end of the script")
    stuck.join(10)

    assert server.ping()


def run_for_ever(port: int) -> None:
    """As somebody who may do everything."""
    with suppress(StoreAway), connect(f"redis://127.0.0.1:{port}/0") as everything:
        everything.execute_command("EVAL", "while true do end", 0)


def killed(admin: Store) -> bool:
    """Whether a script ran, and was ended."""
    try:
        return bool(admin.execute_command("SCRIPT", "KILL"))
    except StoreAway:
        return False


def test_a_store_whose_disk_is_stated_is_not_asked_what_it_may_not_tell(
    server: Store, port: int
) -> None:
    with connect(store_users.url_as("headgate", port)) as store:
        assert require_durable(store, StoreSettings(durable="always")) == "always"

    assert store_users.refused(server) == []
