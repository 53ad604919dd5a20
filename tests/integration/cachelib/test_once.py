"""No write is applied twice, whatever becomes of its reply; who can't know whether it was applied is told so."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from cachelib import OutcomeUnknown, PoolExhausted, Unavailable, deadline
from cachelib.call import Call, run
from cachelib.events import Journal
from runbook.drills.faults import Proxy, cutting_replies, half_open, losing_replies, refused, reset, withholding_replies
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.integration.cachelib.commands import SLOW_TO_LOAD, WRITES, increment
from tests.pairs import pairs
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)

DEADLINE_S = 0.3
LONG_S = 10.0

LOSSES: dict[str, Callable[..., Any]] = {
    "closed": losing_replies,
    "reset": lambda proxy, word: losing_replies(proxy, word, reset=True),
    "cut": lambda proxy, word: cutting_replies(proxy, word, 1),
    "withheld": withholding_replies,
}


# --- a lost reply ---


@pytest.mark.parametrize(
    ("loss", "name"),
    pairs(
        [(loss, "INCR") for loss in LOSSES] + [("closed", name) for name in WRITES] + [("withheld", "MULTI"), ("cut", "pipeline")],
        LOSSES,
        WRITES,
    ),
)
def test_write_whose_reply_is_lost_is_applied_once_and_its_outcome_unknown(
    loss: str, name: str, server: Embedded, proxy: Proxy, direct: Any, open_client: Any
) -> None:
    word, write, applied = WRITES[name]
    deadline_s = DEADLINE_S if loss == "withheld" else LONG_S
    client = open_client(server, port=proxy.port, connected=True, deadline_s=deadline_s)
    with LOSSES[loss](proxy, word) as lost:
        end = end_of(lambda: write(client, 1))
    assert (end.kind, lost.replies, applied(direct)) == (OutcomeUnknown, 1, 1)
    assert end.is_by(DEADLINE_S if loss == "withheld" else 0.2)  # there is nothing else to wait for


@pytest.mark.parametrize("name", WRITES)
def test_write_to_a_stalled_server_is_applied_once_or_was_not_sent(
    name: str, server: Embedded, direct: Any, open_client: Any, paused: Any
) -> None:
    _, write, applied = WRITES[name]
    client = open_client(server, connected=True, deadline_s=DEADLINE_S)
    with paused(server):
        end = end_of(lambda: write(client, 1))
    direct.ping()
    assert (end.kind, applied(direct)) in ((OutcomeUnknown, 1), (Unavailable, 0))
    assert end.is_at(DEADLINE_S)


@pytest.mark.parametrize("name", ["INCR", "MULTI"])
def test_write_that_finds_no_connection_was_certainly_not_applied(
    name: str, server: Embedded, open_client: Any, paused: Any, direct: Any
) -> None:
    """The kernel accepts the connection of a stalled server; the handshake gets no answer."""
    _, write, applied = WRITES[name]
    client = open_client(server, deadline_s=DEADLINE_S)
    with paused(server):
        end = end_of(lambda: write(client, 1))
    assert (end.kind, end.is_at(DEADLINE_S), applied(direct)) == (Unavailable, True, 0)


def test_unknown_outcome_says_what_was_sent_where_and_what_to_do(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port)
    with losing_replies(proxy, b"INCR"), pytest.raises(OutcomeUnknown) as caught:
        client.incrby("account-of-bob", 1234567)
    text = str(caught.value)
    assert text.startswith(f"INCRBY was sent to 127.0.0.1:{proxy.port}/0 and its reply was lost after ")
    assert "may or may not have been applied. Read the data back" in text
    assert "bob" not in text
    assert "1234567" not in text
    assert isinstance(caught.value.__cause__, redis.ConnectionError)


def test_write_in_flight_when_the_server_dies_is_the_only_one_of_unknown_outcome(
    own_server: Embedded, admin: Any, open_client: Any, eventually: Any
) -> None:
    """It ends at once; those that come during the outage have certainly not been sent."""
    client = open_client(own_server, deadline_s=LONG_S)
    popper = Task(lambda: client.blpop("queue", 30))
    eventually(lambda: admin.info("clients")["blocked_clients"])
    own_server.kill()
    end = end_of(popper.result)
    assert (end.kind, end.is_by(1.0)) == (OutcomeUnknown, True)
    for _ in range(3):
        with pytest.raises(Unavailable), deadline(0.1):
            client.incr("n")
    assert client.pool_stats().unknown == 1


def test_pool_exhausted_after_the_command_was_sent_leaves_its_outcome_unknown(
    server: Embedded, proxy: Proxy, direct: Any, connect_to: Any, eventually: Any
) -> None:
    """The only connection goes to another caller between two attempts of a SET of which the first was applied."""
    client = connect_to(server, port=proxy.port, deadline_s=0.5, pool_size=1)
    held = client.connection_pool.get_connection()
    with losing_replies(proxy, b"SET"):
        writer = Task(lambda: client.set("k", "v"))
        eventually(lambda: client.pool_stats().waiting == 1)
        blocker = Task(lambda: client.blpop("queue", 30))
        eventually(lambda: client.pool_stats().waiting == 2)
        client.connection_pool.release(held)
        assert type(writer.result()) is OutcomeUnknown
    direct.rpush("queue", "go on")
    blocker.result()
    assert direct.get("k") == "v"


def test_loading_server_does_not_take_back_what_an_earlier_attempt_sent(server: Embedded) -> None:
    """SET is applied and its reply lost as the server dies; it comes back and loads until the deadline."""
    failures = iter([redis.ConnectionError("reset")])

    def attempt() -> None:
        setting.sent = True
        raise next(failures, redis.BusyLoadingError("loading"))

    with deadline(0.1):
        setting = Call(server.config, Journal([]), [("SET", "k", "v")])
    with pytest.raises(OutcomeUnknown):
        run(setting, attempt)


# --- many faults ---


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.nightly)])
def test_in_a_storm_of_faults_the_server_holds_what_was_acknowledged_and_at_most_the_unknown(
    rounds: int, server: Embedded, proxy: Proxy, open_client: Any, direct: Any, paused: Any
) -> None:
    client = open_client(server, port=proxy.port, deadline_s=0.4, pool_size=20)
    numbers, enough = itertools.count(), threading.Event()
    outcomes: Counter[tuple[str, str]] = Counter()

    def work(name: str) -> None:
        _, write, _ = WRITES[name]
        mine: Counter[tuple[str, str]] = Counter()
        while not enough.is_set():
            try:
                reply = write(client, next(numbers))
                assert reply is not None, "somebody has set the key that only we set: it was sent twice"
                mine[name, "acknowledged"] += 1
            except OutcomeUnknown:
                mine[name, "unknown"] += 1
            except Unavailable:
                pass
        outcomes.update(mine)

    workers = [Task(lambda name=name: work(name)) for name in WRITES for _ in range(3)]
    for _ in range(rounds):
        for word, _, _ in WRITES.values():
            for fault in (reset(proxy), losing_replies(proxy, word), half_open(proxy), refused(proxy)):
                with fault:
                    time.sleep(0.02)  # long enough to meet some commands
                time.sleep(0.02)
        with paused(server):
            time.sleep(0.5)  # longer than the deadline
    enough.set()
    assert results(workers) == [None] * len(workers)
    for name, (_, _, applied) in WRITES.items():
        done, unknown = outcomes[name, "acknowledged"], outcomes[name, "unknown"]
        assert 0 < done <= applied(direct) <= done + unknown, name
    assert client.pool_stats().unknown == sum(times for (_, what), times in outcomes.items() if what == "unknown")


@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=pytest.mark.nightly)])
def test_over_restarts_no_read_fails_and_no_increment_is_lost_or_doubled(
    rounds: int, own_server: Embedded, open_client: Any, eventually: Any
) -> None:
    client = open_client(own_server, deadline_s=20.0)
    enough, reads, answered, unknown = threading.Event(), [0] * 4, [0] * 4, [0] * 4

    def read(number: int) -> None:
        while not enough.is_set():
            assert client.get("k") == b"v"
            reads[number] += 1

    def write(number: int) -> None:
        while not enough.is_set():
            try:
                client.incr("n")
                answered[number] += 1
            except OutcomeUnknown:
                unknown[number] += 1

    client.set("k", "v")
    tasks = [Task(lambda work=work, number=number: work(number)) for work in (read, write) for number in range(4)]
    for _ in range(rounds):
        before = sum(reads), sum(answered)
        eventually(lambda before=before: sum(reads) > before[0] + 20 and sum(answered) > before[1] + 20)
        own_server.stop()
        own_server.start()
    enough.set()
    assert results(tasks) == [None] * 8
    assert sum(answered) <= int(client.get("n")) <= sum(answered) + sum(unknown)


@pytest.mark.parametrize("batched", [False, True], ids=["commands", "batches"])
def test_write_that_a_loading_server_refuses_is_applied_once(batched: bool, start_server: Any, open_client: Any, eventually: Any) -> None:
    """The connections stay, and each command is answered LOADING, as on a replica that gets its data anew; a batch is cut in two."""
    server = start_server(*SLOW_TO_LOAD, "1000", "--enable-debug-command", "yes")
    client = open_client(server, deadline_s=30.0, pool_size=2)
    client.mset({f"k{number}": b"v" * 500 for number in range(400)})
    enough, answered, unknown = threading.Event(), [0] * 8, [0] * 8

    def write(number: int) -> None:
        while not enough.is_set():
            try:
                client.pipeline(transaction=False).incr("n").incr("n").execute() if batched else client.incr("n")
                answered[number] += 1 + batched
            except OutcomeUnknown:
                unknown[number] += 2

    with redis.Redis(port=server.config.port, retry=None, socket_timeout=30) as admin:
        tasks = [Task(lambda number=number: write(number)) for number in range(8)]
        eventually(lambda: all(answered))
        admin.execute_command("DEBUG", "RELOAD")
        before = sum(answered)
        eventually(lambda: sum(answered) > before + 100)
        enough.set()
        assert results(tasks) == [None] * 8
        assert sum(answered) <= int(admin.get("n")) <= sum(answered) + sum(unknown)
    assert batched or not sum(unknown)


# --- WATCH ---


def test_transaction_begins_again_when_the_connection_is_lost_before_multi(
    server: Embedded, proxy: Proxy, direct: Any, open_client: Any
) -> None:
    client = open_client(server, port=proxy.port)
    direct.set("w", 5)
    with losing_replies(proxy, b"GET", times=2) as lost:
        assert increment(client) == [True]
    assert (lost.replies, direct.get("w")) == (2, "6")


def test_watch_lost_with_its_connection_is_a_watch_error(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port)
    with client.pipeline() as pipe:
        pipe.watch("k")
        with losing_replies(proxy, b"GET"), pytest.raises(redis.WatchError, match="the connection was lost while watching"):
            pipe.get("k")
    assert client.pool_stats().in_use == 0


@pytest.mark.parametrize("closed", [False, True], ids=["changed", "changed after the client was closed"])
def test_transaction_whose_watched_key_was_changed_is_not_executed(closed: bool, server: Embedded, direct: Any, open_client: Any) -> None:
    client = open_client(server)
    with client.pipeline() as pipe:
        pipe.watch("k")
        if closed:  # as by one thread, while another is between WATCH and EXEC
            client.close()
        direct.set("k", "changed")
        pipe.multi()
        pipe.set("k", "mine")
        with pytest.raises(redis.RedisError if closed else redis.WatchError):
            pipe.execute()
    assert direct.get("k") == "changed"


@pytest.mark.parametrize("longer", [False, True], ids=["the client's deadline", "an explicit deadline"])
def test_leaving_a_watch_while_the_server_stalls_ends_at_the_deadline(
    longer: bool, server: Embedded, open_client: Any, paused: Any
) -> None:
    client = open_client(server, deadline_s=LONG_S if longer else DEADLINE_S)
    pipe = client.pipeline()
    with deadline(LONG_S):
        pipe.watch("k")
    with paused(server), deadline(DEADLINE_S) if longer else threading.Lock():
        end = end_of(pipe.reset)  # as at the end of a `with` block
    assert end.is_by(DEADLINE_S)
    assert client.pool_stats().in_use == 0


@pytest.mark.parametrize("name", ["INCR", "MULTI"])
def test_write_begun_after_the_deadline_was_not_sent(name: str, server: Embedded, open_client: Any, direct: Any) -> None:
    _, write, applied = WRITES[name]
    client = open_client(server, connected=True)
    with deadline(0.001):
        time.sleep(0.002)
        with pytest.raises(Unavailable) as caught:
            write(client, 1)
    assert (type(caught.value) is PoolExhausted, applied(direct)) == (False, 0)
