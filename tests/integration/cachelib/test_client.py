"""The client against real servers: a drop-in `redis.Redis` that survives kills, restarts and refusals."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from cachelib import Client, Config, OutcomeUnknown, Refused, Unavailable, connect, deadline
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(60)

PASSWORD = "S3cr3t-hunter2"
AT_ONCE_S = 0.5


@pytest.fixture
def client(server: Embedded, connect_to: Any) -> Any:
    return connect_to(server)


@pytest.fixture
def admin(own_server: Embedded) -> Iterator[Any]:
    """redis-py's own client of the test's own server."""
    with redis.Redis(port=own_server.config.port) as admin:
        yield admin


def in_thread(run: Callable[[], object]) -> Callable[[], Any]:
    """Run a function beside the test; what is returned waits for its result, or for its redis error."""
    outcome: list[Any] = []

    def catch() -> None:
        try:
            outcome.append(run())
        except redis.RedisError as error:
            outcome.append(error)

    thread = threading.Thread(target=catch, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(30)
        return outcome[0]

    return result


# --- a redis.Redis like any other ---


def test_client_is_a_redis_client(client: Any) -> None:
    assert isinstance(client, redis.Redis)
    assert isinstance(client, Client)
    assert client.ping() is True


def test_commands_and_their_replies_are_redis_pys_own(client: Any) -> None:
    assert client.set("k", "v", ex=100) is True
    assert client.get("k") == b"v"
    assert client.hset("h", mapping={"a": 1, "b": 2}) == 2
    assert client.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert client.zadd("z", {"a": 1.5}) == 1
    assert client.zscore("z", "a") == 1.5
    assert sorted(client.scan_iter(count=1)) == [b"h", b"k", b"z"]
    assert client.info("server")["tcp_port"] == client.connection_pool.config.port


@pytest.mark.parametrize(("decode_responses", "value"), [(False, b"v"), (True, "v")])
def test_replies_are_decoded_if_asked_for(decode_responses: bool, value: Any, server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, decode_responses=decode_responses)
    client.set("k", "v")
    assert client.get("k") == value
    assert client.pipeline().get("k").execute() == [value]


@pytest.mark.parametrize("transaction", [True, False])
def test_pipeline_returns_every_reply(transaction: bool, client: Any) -> None:
    with client.pipeline(transaction=transaction) as pipe:
        pipe.set("k", 1).incr("k").get("k")
        assert repr(pipe) == f"<cachelib pipeline of 3 commands, {client.connection_pool!r}>"
        assert pipe.execute() == [True, 2, b"2"]
        assert len(pipe) == 0
        assert pipe.execute() == []


@pytest.mark.parametrize("transaction", [True, False])
def test_pipeline_raises_the_first_error_reply_or_returns_it(transaction: bool, client: Any) -> None:
    client.set("k", "text")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.pipeline(transaction=transaction).incr("k").execute()
    replies = client.pipeline(transaction=transaction).incr("k").get("k").execute(raise_on_error=False)
    assert isinstance(replies[0], redis.ResponseError)
    assert replies[1] == b"text"
    assert "0/10 in use" in repr(client.connection_pool)


def test_transaction_counts_right_under_contention(client: Any) -> None:
    def increment(pipe: Any) -> None:
        value = int(pipe.get("n") or 0)
        pipe.multi()
        pipe.set("n", value + 1)

    results = [in_thread(lambda: [client.transaction(increment, "n") for _ in range(20)]) for _ in range(4)]
    assert [result() for result in results] == [[[True]] * 20] * 4
    assert client.get("n") == b"80"


def test_transaction_can_return_the_callables_value(client: Any) -> None:
    assert client.transaction(lambda pipe: "value", "n", value_from_callable=True) == "value"


def test_published_messages_arrive(client: Any) -> None:
    with client.pubsub() as pubsub:
        pubsub.subscribe("news")
        pubsub.psubscribe("new?")
        assert [pubsub.get_message(timeout=5.0)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
        assert client.publish("news", "hello") == 2
        messages = [pubsub.get_message(timeout=5.0) for _ in range(2)]
        assert [(message["type"], message["data"]) for message in messages] == [("message", b"hello"), ("pmessage", b"hello")]
    assert "0/10 in use" in repr(client.connection_pool)


def test_subscriber_waits_longer_than_the_deadline_without_an_error(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, deadline_s=0.1)
    with client.pubsub() as pubsub:
        pubsub.subscribe("news")
        assert pubsub.get_message(timeout=5.0)["type"] == "subscribe"
        assert pubsub.get_message(timeout=0.3) is None
        message = in_thread(lambda: pubsub.get_message(timeout=None))
        time.sleep(0.3)  # past the deadline
        with deadline(10.0):
            client.publish("news", "late")
        assert message()["data"] == b"late"


def test_script_is_loaded_when_it_is_needed(client: Any) -> None:
    script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert script(keys=["n"], args=[5]) == 5
    client.script_flush()
    assert script(keys=["n"], args=[5]) == 10
    client.script_flush()
    with client.pipeline() as pipe:
        script(keys=["n"], args=[1], client=pipe)
        script(keys=["n"], args=[1], client=pipe)
        assert pipe.execute() == [11, 12]


def test_lock_is_held_by_one(client: Any) -> None:
    with client.lock("l", timeout=10) as lock:
        assert lock.owned()
        assert client.lock("l").acquire(blocking=False) is False
        assert lock.extend(10)
    assert client.exists("l") == 0


def test_monitor_sees_commands(client: Any) -> None:
    with client.monitor() as monitor:
        client.set("k", "v")
        assert any("SET k v" in monitor.next_command()["command"] for _ in range(10))


def test_monitor_waits_as_long_as_configured_on_a_connection_that_served_a_short_call(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, connected=True, pool_size=2)
    with deadline(0.4):
        client.ping()
    with client.monitor() as monitor:
        seen = in_thread(monitor.next_command)
        time.sleep(0.5)  # longer than that call had left
        client.set("k", "v")
        assert not isinstance(seen(), Exception)


def test_shutdown_returns_when_the_server_is_gone(own_server: Embedded, connect_to: Any) -> None:
    connect_to(own_server, deadline_s=1.0).shutdown(nosave=True)


def test_single_connection_client_keeps_one_connection(client: Any) -> None:
    with client.client() as single:
        assert len({single.client_id() for _ in range(5)}) == 1
        assert "1/10 in use" in repr(client.connection_pool)
    assert "0/10 in use" in repr(client.connection_pool)


def test_client_closes_its_connections_with_its_block(own_server: Embedded, admin: Any, eventually: Any) -> None:
    with connect(own_server.config) as client:
        client.ping()
        assert len(admin.client_list()) == 2
    eventually(lambda: len(admin.client_list()) == 1)


def test_connect_reads_the_environment_if_given_nothing(server: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REDIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(server.config.port))
    monkeypatch.setenv("REDIS_DB", "1")
    with connect() as client:
        assert client.ping()
        assert client.connection_pool.config.endpoint == f"127.0.0.1:{server.config.port}/1"


def test_configured_database_is_the_one_in_use(server: Embedded, connect_to: Any, client: Any) -> None:
    connect_to(server, db=3).set("k", "v")
    assert client.exists("k") == 0
    with client.client() as single:
        single.select(3)
        assert single.get("k") == b"v"


def test_configured_user_and_password_are_used(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", f">{PASSWORD}", "~*", "+@all")
    assert connect_to(own_server, username="bot", password=PASSWORD).acl_whoami() in ("bot", b"bot")


# --- outages ---


def test_client_built_while_the_server_is_down_works_once_it_is_up(own_server: Embedded, connect_to: Any) -> None:
    own_server.kill()
    client = connect_to(own_server, deadline_s=0.1)
    with pytest.raises(Unavailable):
        client.get("k")
    own_server.start()
    with deadline(10.0):
        assert client.get("k") is None


@pytest.mark.parametrize(
    "command",
    [
        lambda client: client.get("k"),
        lambda client: client.incr("n"),
        lambda client: client.pipeline().incr("n").get("k").execute(),
        lambda client: client.transaction(lambda pipe: pipe.get("k"), "k"),
        lambda client: client.eval("return 1", 0),
    ],
    ids=["GET", "INCR", "MULTI", "WATCH", "EVAL"],
)
def test_client_reconnects_after_a_kill_and_a_restart(command: Any, own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server)
    command(client)
    own_server.kill()
    own_server.start()
    command(client)


def test_a_restarted_servers_data_are_seen(own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server)
    client.set("k", "kept")
    own_server.stop()
    own_server.start()
    assert client.get("k") == b"kept"


@pytest.mark.parametrize("connected", [False, True], ids=["never connected", "connected before"])
@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (lambda client: client.get("k"), None),
        (lambda client: client.set("k", "v"), True),
        # Nothing could be sent, so nothing can be applied twice.
        (lambda client: client.incr("n"), 1),
        (lambda client: client.pipeline().incr("n").execute(), [1]),
    ],
    ids=["GET", "SET", "INCR", "MULTI"],
)
def test_call_issued_during_an_outage_shorter_than_the_deadline_succeeds(
    command: Any, reply: Any, connected: bool, own_server: Embedded, connect_to: Any
) -> None:
    client = connect_to(own_server, deadline_s=10.0)
    if connected:
        client.ping()
    own_server.kill()
    called = in_thread(lambda: command(client))
    time.sleep(0.1)  # the length of the outage
    own_server.start()
    assert called() == reply


def test_reads_that_a_stall_holds_up_succeed_after_it(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, deadline_s=10.0)
    client.set("k", "v")
    with paused(server):
        reads = [in_thread(lambda: client.get("k")) for _ in range(5)]
        time.sleep(0.1)  # the length of the stall
    assert [read() for read in reads] == [b"v"] * 5


def test_reads_in_flight_survive_a_kill_and_a_restart(own_server: Embedded, connect_to: Any) -> None:
    """Eight threads read without a break; none of them may see an error."""
    client, enough, replies = connect_to(own_server, deadline_s=10.0), threading.Event(), []

    def read() -> int:
        while not enough.is_set():
            replies.append(client.get("k"))
        return len(replies)

    client.set("k", "v")
    readers = [in_thread(read) for _ in range(8)]
    for _ in range(3):
        own_server.stop()
        own_server.start()
    enough.set()
    results = [reader() for reader in readers]
    assert [result for result in results if not isinstance(result, int)] == []
    assert set(replies) == {b"v"}


def test_no_increment_is_lost_or_doubled_over_restarts(own_server: Embedded, connect_to: Any) -> None:
    """Each increment that was answered is counted once; each of unknown outcome at most once."""
    client, enough = connect_to(own_server, deadline_s=10.0), threading.Event()
    answered, unknown = [0] * 4, [0] * 4

    def write(number: int) -> None:
        while not enough.is_set():
            try:
                client.incr("n")
                answered[number] += 1
            except OutcomeUnknown:
                unknown[number] += 1

    writers = [in_thread(lambda number=number: write(number)) for number in range(4)]
    for _ in range(3):
        time.sleep(0.05)  # some work between two faults
        own_server.stop()
        own_server.start()
    enough.set()
    assert [writer() for writer in writers] == [None] * 4
    assert sum(answered) > 0
    assert sum(answered) <= int(client.get("n")) <= sum(answered) + sum(unknown)


def test_loading_server_is_waited_for(start_server: Any, connect_to: Any) -> None:
    slow = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    server = start_server("--appendonly", "no", "--save", "", *slow)
    client = connect_to(server, deadline_s=30.0)
    client.mset({f"k{number}": os.urandom(500) for number in range(200)})
    client.save()
    server.kill()
    seen = in_thread(lambda: _await_loading(server.config))
    read, written = in_thread(lambda: client.get("k1")), in_thread(lambda: client.incr("n"))
    server.start()
    assert seen() == "loading"
    assert (len(read()), written()) == (500, 1)


def _await_loading(config: Config) -> str:
    with redis.Redis(port=config.port, retry=None) as observer:
        while True:
            try:
                observer.get("k1")
                return "never loading"
            except redis.BusyLoadingError:
                return "loading"
            except redis.ConnectionError:
                continue


def test_script_survives_a_restart_that_forgets_it(own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server)
    script = client.register_script("return ARGV[1]")
    assert script(args=["a"]) == b"a"
    own_server.kill()
    own_server.start()
    assert script(args=["b"]) == b"b"


def test_subscriber_hears_again_after_a_restart(own_server: Embedded, connect_to: Any, eventually: Any) -> None:
    """It is told of the lost connection; listening on is enough to be subscribed again."""
    client = connect_to(own_server)
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("news")
        own_server.kill()
        own_server.start()

        def hear() -> Any:
            client.publish("news", "hello")
            try:
                return pubsub.get_message(timeout=0.05)
            except redis.ConnectionError:
                return None

        assert eventually(hear)["data"] == b"hello"


@pytest.mark.parametrize("command", [lambda client: client.get("k"), lambda client: client.incr("n")], ids=["GET", "INCR"])
def test_single_connection_client_reconnects_after_a_restart(command: Any, own_server: Embedded, connect_to: Any) -> None:
    with connect_to(own_server).client() as single:
        single.ping()
        own_server.kill()
        own_server.start()
        command(single)


def test_single_connection_client_shared_by_threads_gives_each_its_own_reply(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    """However often the connection is lost: whoever finds it so reconnects it while nobody else uses it."""
    with connect_to(own_server).client() as single:
        asking = [in_thread(lambda n=n: [single.echo(f"{n} {i}") == b"%d %d" % (n, i) for i in range(200)]) for n in range(8)]
        for _ in range(20):
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.01)
        assert [result() for result in asking] == [[True] * 200] * 8


def test_thread_waits_for_a_shared_connection_until_its_deadline(
    own_server: Embedded, admin: Any, connect_to: Any, eventually: Any
) -> None:
    with connect_to(own_server, deadline_s=0.2).client() as single:
        blocking = in_thread(lambda: single.blpop("nothing", 1))
        eventually(lambda: admin.info("clients")["blocked_clients"])
        began_s = time.monotonic()
        with pytest.raises(Unavailable, match="another thread kept the connection"):
            single.get("k")
        assert time.monotonic() - began_s < 0.7
        assert blocking() is None


def test_reply_to_a_call_under_way_on_a_single_connection_that_is_closed_is_nobody_elses(
    server: Embedded, connect_to: Any, direct: Any, eventually: Any
) -> None:
    client = connect_to(server, pool_size=1)
    for _ in range(5):
        single = client.client()
        popping = in_thread(lambda single=single: single.blpop("nothing", 10))
        eventually(lambda: direct.info("clients")["blocked_clients"])
        asking = [
            in_thread(lambda n=n: [client.pipeline(transaction=False).echo(f"{n}").execute() == [b"%d" % n] for _ in range(20)])
            for n in range(8)
        ]
        eventually(lambda: client.pool_stats().waiting == 8)
        single.close()
        assert [result() for result in asking] == [[True] * 20] * 8
        assert isinstance(popping(), OutcomeUnknown)
    stats = client.pool_stats()
    assert (stats.in_use, stats.made) == (0, stats.idle + stats.lost + stats.retired)


def test_closing_a_single_connection_client_waits_for_nobody(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    """Not for the thread that waits for its connection, either, and that would block for ever once it had it."""
    client = connect_to(server, pool_size=2)
    single = client.client()
    popping = [in_thread(lambda: single.blpop("queue", 0)) for _ in range(2)]
    eventually(lambda: direct.info("clients")["blocked_clients"] == 1)
    time.sleep(0.05)  # the second one waits
    began_s = time.monotonic()
    single.close()
    assert time.monotonic() - began_s < AT_ONCE_S
    direct.rpush("queue", "a", "b")
    assert sorted(type(result()).__name__ for result in popping) == ["OutcomeUnknown", "tuple"]
    assert client.pool_stats().in_use == 0


def test_single_connection_client_that_can_not_connect_has_certainly_sent_nothing(own_server: Embedded, connect_to: Any) -> None:
    with connect_to(own_server, deadline_s=0.1).client() as single:
        own_server.kill()
        with pytest.raises(Unavailable):
            single.get("k")
        with pytest.raises(Unavailable):
            single.incr("n")


# --- refusals ---


def test_single_connection_client_whose_reconnection_is_refused_says_so(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    with connect_to(own_server).client() as single:
        single.ping()
        admin.config_set("requirepass", PASSWORD)
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        refusal_of(single)


def refusal_of(client: Any) -> str:
    started_s = time.monotonic()
    with pytest.raises(Refused) as caught:
        client.get("k")
    assert time.monotonic() - started_s < AT_ONCE_S
    assert isinstance(caught.value, redis.AuthenticationError)
    text = f"{caught.value} {caught.value.__cause__}"
    assert PASSWORD not in text
    assert "wr0ng" not in text
    return text


@pytest.mark.parametrize(
    "credentials",
    [
        {"password": "wr0ng-password"},
        {},
        {"username": "nobody", "password": PASSWORD},
        {"username": "default", "password": "wr0ng-password"},
    ],
    ids=["wrong password", "no password", "unknown user", "wrong password of a user"],
)
def test_wrong_credentials_are_refused_at_once(credentials: Any, own_server: Embedded, admin: Any, connect_to: Any) -> None:
    admin.config_set("requirepass", PASSWORD)
    text = refusal_of(connect_to(own_server, deadline_s=10.0, **credentials))
    assert f"127.0.0.1:{own_server.config.port}/0 refused the connection: " in text
    assert "Check REDIS_USERNAME, REDIS_PASSWORD and REDIS_DB" in text


def test_missing_database_is_refused_at_once(server: Embedded, connect_to: Any) -> None:
    assert "DB index is out of range" in refusal_of(connect_to(server, db=99, deadline_s=10.0))


@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.incr("n"),
        lambda client: client.pipeline().get("k").execute(),
        lambda client: client.pipeline().watch("k"),
        lambda client: client.client(),
        lambda client: client.pubsub().subscribe("news"),
    ],
    ids=["INCR", "pipeline", "WATCH", "single connection", "SUBSCRIBE"],
)
def test_everything_that_connects_is_refused_alike(use: Any, server: Embedded, connect_to: Any) -> None:
    with pytest.raises(Refused):
        use(connect_to(server, db=99))


def test_right_password_is_accepted_after_it_was_set(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    client = connect_to(own_server, password=PASSWORD)
    admin.config_set("requirepass", "another")
    refusal_of(client)
    admin.config_set("requirepass", PASSWORD)
    assert client.get("k") is None


def test_nothing_that_the_client_shows_holds_the_password(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    admin.config_set("requirepass", PASSWORD)
    client = connect_to(own_server, password=PASSWORD)
    client.ping()
    pool = client.connection_pool
    shown = [client, pool, pool.config, client.pipeline(), pool.get_connection()]
    assert [text for text in map(repr, shown) if PASSWORD in text] == []


# --- error replies ---


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (lambda client: client.execute_command("FROBNICATE"), redis.ResponseError),
        # The server gives no answer to it.
        (lambda client: client.execute_command(""), redis.RedisError),
        (lambda client: client.execute_command("GET"), redis.ResponseError),
        (lambda client: client.set("k", "text") and client.incr("k"), redis.ResponseError),
        (lambda client: client.evalsha("0" * 40, 0), redis.exceptions.NoScriptError),
        (lambda client: client.set("k", object()), redis.DataError),
        (lambda client: client.pipeline().execute_command("FROBNICATE").execute(), redis.ResponseError),
    ],
    ids=["unknown command", "empty name", "too few arguments", "wrong type", "unknown script", "unencodable", "in a pipeline"],
)
def test_error_reply_is_raised_at_once_as_redis_py_does(command: Any, kind: type, client: Any) -> None:
    started_s = time.monotonic()
    with pytest.raises(kind):
        command(client)
    assert time.monotonic() - started_s < AT_ONCE_S
    assert "0/10 in use" in repr(client.connection_pool)


def test_name_that_can_not_be_looked_up_is_a_redis_error(server: Embedded, connect_to: Any) -> None:
    with pytest.raises(redis.RedisError, match=r"nowhere\.invalid"):
        connect_to(server, host="nowhere.invalid", deadline_s=0.1).ping()
