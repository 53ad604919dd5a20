"""One call against real servers: what is applied once, what is sent again, and that each failure ends at its deadline."""

import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from cachelib import OutcomeUnknown, PoolExhausted, Unavailable, call, deadline
from cachelib.call import Call, run
from cachelib.events import Journal
from runbook.drills.faults import Proxy, losing_replies
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(60)

# How late a failure may be on a noisy host; the design allows 0.05 s.
SLACK_S = 0.5

# Short enough for many tests, long enough to tell from an immediate failure.
DEADLINE_S = 0.15
# With less time left than this, another attempt is not worth beginning.
EARLIEST_S = 0.9 * DEADLINE_S


@pytest.fixture
def client(server: Embedded, proxy: Proxy, connect_to: Any) -> Any:
    """A client behind the proxy, its first connection made."""
    client = connect_to(server, port=proxy.port, deadline_s=2.0)
    client.ping()
    return client


def failure_of(attempt: Callable[[], object]) -> tuple[Exception, float]:
    """Return the error that an attempt raised, and after how many seconds."""
    started_s = time.monotonic()
    with pytest.raises(redis.RedisError) as caught:
        attempt()
    return caught.value, time.monotonic() - started_s


# --- a lost reply ---


def multi_incr(client: Any) -> Any:
    with client.pipeline() as pipe:
        return pipe.set("other", 1).incr("k").execute()


def plain_pipeline_incr(client: Any) -> Any:
    with client.pipeline(transaction=False) as pipe:
        return pipe.get("other").incr("k").execute()


def watched_increment(client: Any) -> Any:
    def increment(pipe: Any) -> None:
        value = int(pipe.get("k") or 0)
        pipe.multi()
        pipe.set("k", value + 1)

    return client.transaction(increment, "k")


WRITES_ONCE = {
    "INCR": (b"INCR", lambda client: client.incr("k"), lambda direct: direct.get("k") == "1"),
    "RPUSH": (b"RPUSH", lambda client: client.rpush("k", "v"), lambda direct: direct.llen("k") == 1),
    "XADD": (b"XADD", lambda client: client.xadd("k", {"f": "v"}), lambda direct: direct.xlen("k") == 1),
    "SET NX": (b"SET", lambda client: client.set("k", "mine", nx=True), lambda direct: direct.get("k") == "mine"),
    "MULTI": (b"EXEC", multi_incr, lambda direct: direct.get("k") == "1"),
    "pipeline": (b"INCR", plain_pipeline_incr, lambda direct: direct.get("k") == "1"),
    "EVAL": (b"EVAL", lambda client: client.eval("return redis.call('INCR', 'k')", 0), lambda direct: direct.get("k") == "1"),
    "EXEC after WATCH": (b"EXEC", watched_increment, lambda direct: direct.get("k") == "1"),
    "unknown to us": (
        b"APPEND",
        lambda client: client.execute_command("APPEND", "k", "v"),
        lambda direct: direct.get("k") == "v",
    ),
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(("word", "write", "applied_once"), WRITES_ONCE.values(), ids=WRITES_ONCE)
def test_write_whose_reply_is_lost_is_applied_once_and_its_outcome_unknown(
    word: bytes, write: Any, applied_once: Any, reset: bool, client: Any, proxy: Proxy, direct: Any
) -> None:
    with losing_replies(proxy, word, times=5, reset=reset) as lost:
        error, took_s = failure_of(lambda: write(client))
    assert type(error) is OutcomeUnknown
    assert lost.replies == 1
    assert applied_once(direct)
    assert took_s < SLACK_S  # there is nothing to wait for


READS_AND_REPEATABLE_WRITES = {
    "GET": (b"GET", lambda client: client.get("was"), b"here"),
    "SET": (b"SET", lambda client: client.set("k", "v"), True),
    # Its reply may differ: the first execution deleted one key, the repeated one none.
    "DEL": (b"DEL", lambda client: client.delete("was"), 0),
    "HSET": (b"HSET", lambda client: client.hset("h", mapping={"f": 1}), 0),
    "MULTI": (b"EXEC", lambda client: client.pipeline().set("k", "v").get("was").execute(), [True, b"here"]),
    "pipeline": (
        b"MGET",
        lambda client: client.pipeline(transaction=False).mget("was").set("k", "v").execute(),
        [[b"here"], True],
    ),
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(("word", "command", "reply"), READS_AND_REPEATABLE_WRITES.values(), ids=READS_AND_REPEATABLE_WRITES)
def test_repeatable_command_whose_reply_is_lost_is_sent_again_until_it_succeeds(
    word: bytes, command: Any, reply: Any, reset: bool, client: Any, proxy: Proxy, direct: Any
) -> None:
    direct.set("was", "here")
    with losing_replies(proxy, word, times=3, reset=reset) as lost:
        assert command(client) == reply
    assert lost.replies == 3


def test_transaction_begins_again_when_the_connection_is_lost_before_multi(client: Any, proxy: Proxy, direct: Any) -> None:
    direct.set("k", 5)
    with losing_replies(proxy, b"GET", times=2) as lost:
        assert watched_increment(client) == [True]
    assert (lost.replies, direct.get("k")) == (2, "6")


def test_a_watch_lost_with_its_connection_is_told_as_a_watch_error(client: Any, proxy: Proxy) -> None:
    with client.pipeline() as pipe:
        pipe.watch("k")
        with losing_replies(proxy, b"GET"), pytest.raises(redis.WatchError, match="the connection was lost while watching"):
            pipe.get("k")
    assert "0/10 in use" in repr(client.connection_pool)


def test_the_watch_of_a_transaction_is_honoured(client: Any, direct: Any) -> None:
    with client.pipeline() as pipe:
        pipe.watch("k")
        direct.set("k", "changed")
        pipe.multi()
        pipe.set("k", "mine")
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert direct.get("k") == "changed"


def test_a_transaction_whose_watch_was_closed_with_its_connection_is_not_executed(client: Any, direct: Any) -> None:
    """As when one thread closes the client while another is between WATCH and EXEC."""
    with client.pipeline() as pipe:
        pipe.watch("k")
        client.close()
        direct.set("k", "changed")
        pipe.multi()
        pipe.set("k", "mine")
        with pytest.raises(redis.RedisError):
            pipe.execute()
    assert direct.get("k") == "changed"


def test_unknown_outcome_says_what_was_sent_where_and_what_to_do(client: Any, proxy: Proxy) -> None:
    with losing_replies(proxy, b"INCR"):
        error, _ = failure_of(lambda: client.incrby("account-of-bob", 1234567))
    text = str(error)
    assert text.startswith(f"INCRBY was sent to 127.0.0.1:{proxy.port}/0 and its reply was lost after ")
    assert "may or may not have been applied. Read the data back" in text
    assert "bob" not in text
    assert "1234567" not in text
    assert isinstance(error.__cause__, redis.ConnectionError)


def test_pool_exhausted_after_the_command_was_sent_leaves_its_outcome_unknown(
    server: Embedded, proxy: Proxy, direct: Any, connect_to: Any, eventually: Any
) -> None:
    """The only connection goes to another caller between two attempts of a SET of which the first was applied."""
    client = connect_to(server, port=proxy.port, deadline_s=0.5, pool_size=1)
    pool, errors = client.connection_pool, []
    held = pool.get_connection()

    def write() -> None:
        errors.append(failure_of(lambda: client.set("k", "v"))[0])

    writer = threading.Thread(target=write)
    blocker = threading.Thread(target=client.blpop, args=("queue", 30))
    with losing_replies(proxy, b"SET"):
        writer.start()
        eventually(lambda: "1 waiting" in repr(pool))
        blocker.start()
        eventually(lambda: "2 waiting" in repr(pool))
        pool.release(held)
        writer.join()
    direct.rpush("queue", "go on")
    blocker.join()
    assert direct.get("k") == "v"
    assert [type(error) for error in errors] == [OutcomeUnknown]


def test_a_loading_server_does_not_take_back_what_an_earlier_attempt_sent(server: Embedded) -> None:
    """SET is applied and its reply lost as the server dies; it comes back and loads until the deadline."""
    failures = iter([redis.ConnectionError("reset")])

    def attempt() -> None:
        setting.sent = True
        raise next(failures, redis.BusyLoadingError("loading"))

    with deadline(0.1):
        setting = Call(server.config, Journal([]), [("SET", "k", "v")])
    with pytest.raises(OutcomeUnknown):
        run(setting, attempt)


# --- a stalled or missing server ---


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (lambda client: client.get("k"), Unavailable),
        (lambda client: client.pipeline().get("k").execute(), Unavailable),
        (lambda client: client.set("k", "v"), OutcomeUnknown),
        (lambda client: client.incr("k"), OutcomeUnknown),
        (multi_incr, OutcomeUnknown),
        (plain_pipeline_incr, OutcomeUnknown),
        (lambda client: client.transaction(lambda pipe: None, "k"), Unavailable),
    ],
    ids=["GET", "pipeline of GET", "SET", "INCR", "MULTI", "pipeline of INCR", "WATCH"],
)
def test_stalled_server_fails_a_call_at_its_deadline(command: Any, kind: type, server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=DEADLINE_S)
    with paused(server):
        error, took_s = failure_of(lambda: command(client))
    assert type(error) is kind
    assert EARLIEST_S <= took_s < DEADLINE_S + SLACK_S


def test_write_sent_to_a_stalled_server_is_applied_once(
    server: Embedded, connect_to: Any, paused: Any, direct: Any, eventually: Any
) -> None:
    client = connect_to(server, connected=True, deadline_s=DEADLINE_S)
    with paused(server):
        failure_of(lambda: client.incr("k"))
    eventually(lambda: direct.get("k"))
    assert direct.get("k") == "1"


@pytest.mark.parametrize("command", [lambda client: client.incr("k"), multi_incr], ids=["INCR", "MULTI"])
def test_write_that_finds_no_connection_was_certainly_not_applied(
    command: Any, server: Embedded, connect_to: Any, paused: Any, direct: Any
) -> None:
    """The kernel accepts the connection of a stalled server; the handshake gets no answer."""
    client = connect_to(server, deadline_s=DEADLINE_S)
    with paused(server):
        error, took_s = failure_of(lambda: command(client))
    assert type(error) is Unavailable
    assert EARLIEST_S <= took_s < DEADLINE_S + SLACK_S
    assert direct.exists("k") == 0


@pytest.mark.parametrize(
    "command",
    [lambda client: client.get("k"), lambda client: client.incr("k"), multi_incr, watched_increment],
    ids=["GET", "INCR", "MULTI", "WATCH"],
)
@pytest.mark.parametrize("connected", [False, True], ids=["never connected", "connected before"])
def test_missing_server_fails_a_call_at_its_deadline(command: Any, connected: bool, own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server, connected=connected, deadline_s=DEADLINE_S)
    own_server.kill()
    error, took_s = failure_of(lambda: command(client))
    assert type(error) is Unavailable
    assert EARLIEST_S <= took_s < DEADLINE_S + SLACK_S


def test_unavailable_says_what_where_how_long_and_chains_the_cause(own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server, deadline_s=0.1)
    own_server.kill()
    error, _ = failure_of(lambda: client.set("account-of-bob", "v"))
    text = str(error)
    within = r"within 0\.\d+ s \(away since 20\S+, for 0\.\d+ s and \d+ connection attempts: "
    assert re.match(rf"SET got no answer from 127\.0\.0\.1:{own_server.config.port}/0 {within}", text)
    assert "attempts" in text
    assert "refused" in text
    assert "changed nothing" in text
    assert "bob" not in text
    assert isinstance(error.__cause__, redis.ConnectionError)


def test_unavailable_names_the_failure_and_not_just_the_deadline(server: Embedded, proxy: Proxy, connect_to: Any) -> None:
    """The wait between two attempts lasts until the deadline; an attempt made then could only fail of the deadline."""
    client = connect_to(server, port=proxy.port, deadline_s=0.5, backoff_base_s=100.0, backoff_cap_s=100.0)
    with losing_replies(proxy, b"GET", times=100):
        error, _ = failure_of(lambda: client.get("k"))
    assert type(error) is Unavailable
    assert "closed by server" in str(error)


def test_pipeline_that_can_not_load_its_script_says_so_once(own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server, deadline_s=0.1)
    pipe = client.pipeline()
    client.register_script("return 1")(client=pipe)
    own_server.kill()
    error, took_s = failure_of(pipe.execute)
    assert type(error) is Unavailable
    assert took_s < 0.1 + SLACK_S
    assert str(error).count("got no answer") == 1


def test_a_call_within_a_call_ends_with_it(server: Embedded, connect_to: Any) -> None:
    """A pipeline loads its scripts by calls of their own."""
    config = connect_to(server, deadline_s=1.0, backoff_cap_s=0.01).connection_pool.config
    attempts = []

    def lose() -> None:
        raise redis.ConnectionError("lost")

    def attempt() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(0.8)  # of 1.0
            lose()
        run(Call(config, Journal([]), [("GET", "inner")]), lose)

    error, took_s = failure_of(lambda: run(Call(config, Journal([]), [("GET", "outer")]), attempt))
    assert type(error) is Unavailable
    assert took_s < 1.0 + SLACK_S


def test_connecting_ends_at_the_deadline_when_nobody_accepts(server: Embedded, connect_to: Any) -> None:
    """The listener's queue is full, so the kernel drops what arrives: a connection attempt would take minutes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        client = connect_to(server, port=address[1], deadline_s=0.4, connect_timeout_s=0.15)
        error, took_s = failure_of(lambda: client.incr("k"))
        for filler in fillers:
            filler.close()
    assert type(error) is Unavailable
    assert "Timeout connecting" in str(error)
    assert 0.36 <= took_s < 0.4 + SLACK_S


def test_write_that_was_in_flight_when_the_server_died_has_an_unknown_outcome_at_once(
    own_server: Embedded, connect_to: Any, eventually: Any
) -> None:
    client, observer = connect_to(own_server, deadline_s=5.0), connect_to(own_server)
    errors = []
    popper = threading.Thread(target=lambda: errors.append(failure_of(lambda: client.blpop("queue", 30))))
    popper.start()
    eventually(lambda: observer.info("clients")["blocked_clients"])
    own_server.kill()
    popper.join()
    ((error, took_s),) = errors
    assert type(error) is OutcomeUnknown
    assert took_s < 4


def test_leaving_a_watch_while_the_server_stalls_ends_at_the_deadline_and_frees_the_connection(
    server: Embedded, connect_to: Any, paused: Any
) -> None:
    client = connect_to(server, deadline_s=DEADLINE_S)
    pipe = client.pipeline()
    with deadline(10.0):
        pipe.watch("k")
    with paused(server):
        started_s = time.monotonic()
        pipe.reset()  # as at the end of a `with` block
        took_s = time.monotonic() - started_s
    assert took_s < DEADLINE_S + SLACK_S
    assert "0/10 in use" in repr(client.connection_pool)


def test_leaving_a_watch_while_the_server_stalls_ends_at_an_explicit_deadline(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, deadline_s=1.5)
    pipe = client.pipeline()
    pipe.watch("k")
    with paused(server), deadline(0.2):
        started_s = time.monotonic()
        pipe.reset()
        took_s = time.monotonic() - started_s
    assert took_s < 0.2 + SLACK_S


# --- deadline() ---


def test_explicit_deadline_replaces_the_configured_one(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, deadline_s=30.0)
    client.ping()
    with paused(server), deadline(0.2):
        _, took_s = failure_of(lambda: client.get("k"))
    assert 0.18 <= took_s < 0.2 + SLACK_S


def test_explicit_deadline_may_be_longer_than_the_configured_one(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=0.05)
    with paused(server), deadline(0.3):
        _, took_s = failure_of(lambda: client.get("k"))
    assert took_s >= 0.27


def test_explicit_deadline_bounds_all_calls_together(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server)
    client.ping()
    started_s = time.monotonic()
    with paused(server), deadline(0.3):
        for _ in range(5):
            failure_of(lambda: client.get("k"))
    assert 0.27 <= time.monotonic() - started_s < 0.3 + SLACK_S


@pytest.mark.parametrize(("outer_s", "inner_s"), [(0.2, 30.0), (30.0, 0.2)])
def test_the_earlier_of_two_nested_deadlines_holds(outer_s: float, inner_s: float, server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server)
    client.ping()
    with paused(server), deadline(outer_s), deadline(inner_s):
        _, took_s = failure_of(lambda: client.get("k"))
    assert 0.18 <= took_s < 0.2 + SLACK_S


def test_deadline_ends_with_its_block(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server)
    with deadline(0.001):
        time.sleep(0.002)
        failure_of(client.ping)
    assert client.ping()


def test_deadline_of_one_thread_does_not_bind_another(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server)
    replies: list[bool] = []
    with deadline(0.001):
        time.sleep(0.002)
        thread = threading.Thread(target=lambda: replies.append(client.ping()))
        thread.start()
        thread.join()
    assert replies == [True]


@pytest.mark.parametrize("write", [lambda client: client.incr("k"), multi_incr], ids=["INCR", "MULTI"])
def test_write_begun_after_the_deadline_was_not_sent_and_says_so(write: Any, server: Embedded, connect_to: Any, direct: Any) -> None:
    client = connect_to(server)
    client.ping()
    with deadline(0.001):
        time.sleep(0.002)
        error, _ = failure_of(lambda: write(client))
    assert direct.exists("k") == 0
    assert type(error) is Unavailable


def test_finalisers_set_no_context_variable(server: Embedded, connect_to: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 crashes when the garbage collector runs such a finaliser while it sets another context variable."""
    changes: list[str] = []

    class Recorder:
        def __init__(self, variable: Any) -> None:
            self.get, self._variable = variable.get, variable

        def set(self, value: object) -> Any:
            changes.append(f"{self._variable.name} was set")
            return self._variable.set(value)

        def reset(self, token: Any) -> None:
            self._variable.reset(token)

    for name in ("_until_s", "_idempotent", "_call"):
        monkeypatch.setattr(call, name, Recorder(getattr(call, name)))
    client = connect_to(server)
    pipe, pubsub, single = client.pipeline(), client.pubsub(), client.client()
    pipe.watch("k")
    pubsub.subscribe("news")
    single.ping()
    assert changes
    changes.clear()
    for finalised in (pipe, pubsub, single, client):
        finalised.__del__()
    assert changes == []


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_deadline_refuses_what_is_no_time_to_come(timeout_s: float) -> None:
    with pytest.raises(ValueError, match=f"a deadline takes seconds above 0, got {timeout_s}"), deadline(timeout_s):
        pass


# --- blocking commands ---


@pytest.mark.parametrize(
    "block",
    [
        lambda client: client.blpop("nothing", 0.9),
        lambda client: client.xread({"nothing": "$"}, block=900) or None,
    ],
    ids=["BLPOP", "XREAD"],
)
def test_blocking_command_outlasts_the_configured_deadline(block: Any, server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, deadline_s=0.8)
    started_s = time.monotonic()
    assert block(client) is None
    assert time.monotonic() - started_s >= 0.89


def test_blocking_command_in_a_plain_pipeline_outlasts_the_configured_deadline(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, deadline_s=0.8)
    assert client.pipeline(transaction=False).blpop("nothing", 0.9).execute() == [None]


def test_blocking_command_for_ever_returns_when_there_is_something(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=0.3)
    replies: list[Any] = []
    popper = threading.Thread(target=lambda: replies.append(client.blpop("queue", 0)))
    popper.start()
    eventually(lambda: direct.info("clients")["blocked_clients"])
    time.sleep(0.5)  # past the deadline
    direct.rpush("queue", "v")
    popper.join()
    assert list(map(list, replies)) == [[b"queue", b"v"]]


def test_stalled_server_fails_a_blocking_command_at_deadline_plus_its_timeout(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=DEADLINE_S)
    with paused(server):
        error, took_s = failure_of(lambda: client.blpop("nothing", 0.2))
    assert type(error) is OutcomeUnknown
    assert EARLIEST_S + 0.2 <= took_s < DEADLINE_S + 0.2 + SLACK_S


def test_explicit_deadline_bounds_a_blocking_command_too(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server)
    started_s = time.monotonic()
    with deadline(0.2), pytest.raises(redis.RedisError):
        client.blpop("nothing", 1)
    assert time.monotonic() - started_s < 0.2 + SLACK_S


def test_missing_server_fails_a_command_that_would_block_for_ever(own_server: Embedded, connect_to: Any) -> None:
    client, errors = connect_to(own_server, deadline_s=0.2), []

    def pop() -> None:
        try:
            client.blpop("queue", 0)
        except redis.RedisError as error:
            errors.append(error)

    own_server.kill()
    popper = threading.Thread(target=pop, daemon=True)
    popper.start()
    popper.join(0.2 + 2 * SLACK_S)
    ended = list(errors)
    own_server.start()
    connect_to(own_server).rpush("queue", "end the thread")
    popper.join()
    assert [type(error) for error in ended] == [Unavailable]


@pytest.mark.parametrize("timeout", [-1, "nan", "soon"])
def test_timeout_of_a_blocking_command_that_makes_no_sense_is_left_to_the_server(timeout: Any, server: Embedded, connect_to: Any) -> None:
    client = connect_to(server)
    with pytest.raises(redis.ResponseError, match="timeout"):
        client.blpop("nothing", timeout)


def test_exhausted_pool_ends_a_call_at_its_deadline(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1, deadline_s=DEADLINE_S)
    held = client.connection_pool.get_connection()
    error, took_s = failure_of(lambda: client.incr("k"))
    client.connection_pool.release(held)
    assert type(error) is PoolExhausted
    assert EARLIEST_S <= took_s < DEADLINE_S + SLACK_S
