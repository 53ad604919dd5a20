"""Commands that travel in the write of another caller: each caller gets its own reply, or what follows from the loss of it."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cachelib import OutcomeUnknown, PoolExhausted, deadline
from cachelib.connection import _BoundedSocket
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.integration.cachelib.in_line import Line

pytestmark = pytest.mark.timeout(60)


def reads_of(server: Any) -> int:
    return int(server.info("stats")["total_reads_processed"])


# --- every caller gets its own reply ---


def test_those_who_wait_travel_in_the_write_of_the_first(server: Embedded, connect_to: Any, direct: Any) -> None:
    client = connect_to(server, pool_size=1)
    line = Line(client, [lambda number=number: client.rpush("k", number) for number in range(60)])
    before = reads_of(direct)
    assert line.go() == list(range(1, 61))
    assert reads_of(direct) - before < 10
    assert direct.lrange("k", 0, -1) == [str(number) for number in range(60)]  # in the order of asking


def test_a_line_longer_than_one_write_loses_nobody(server: Embedded, connect_to: Any, direct: Any) -> None:
    client = connect_to(server, pool_size=1, deadline_s=20.0)
    line = Line(client, [lambda number=number: client.rpush("k", number) for number in range(200)])
    assert line.go() == list(range(1, 201))
    assert client.pool_stats().waiting == client.pool_stats().in_use == 0


values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r\n", b"$-1\r\n", b"+OK\r\n", b"-ERR no\r\n", b"\x00\xff", b"*3\r\n"]),
    st.integers(0, 70_000).map(lambda size: bytes([size % 251]) * size),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(payloads=st.lists(values, min_size=2, max_size=12))
@example(payloads=[b"-LOADING no\r\n", b"", b"x" * 70_000, b"\r\n"])
def test_any_payload_comes_back_to_its_own_caller(payloads: list[bytes], server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1)
    line = Line(client, [lambda payload=payload: client.echo(payload) for payload in payloads])
    assert line.go() == payloads


def test_replies_of_all_kinds_are_told_apart(server: Embedded, connect_to: Any) -> None:
    """Decoded and raw ones, errors, nothing, numbers, maps, sets and big ones, in one write."""
    client = connect_to(server, pool_size=1, decode_responses=True)
    big = "x" * 2**20
    client.set("big", big)
    client.set("text", "é")
    client.hset("map", mapping={"f": "v"})
    client.sadd("set", "a", "b")
    client.zadd("sorted", {"a": 1.5})
    calls: list[tuple[Callable[[], object], object]] = [
        (lambda: client.get("text"), "é"),
        (lambda: client.dump("missing"), None),
        (lambda: client.incr("text"), redis.ResponseError),
        (lambda: client.get("big"), big),
        (lambda: client.lpush("text", 1), redis.ResponseError),
        (lambda: client.get("missing"), None),
        (lambda: client.hgetall("map"), {"f": "v"}),
        (lambda: client.evalsha("0" * 40, 0), redis.exceptions.NoScriptError),
        (lambda: client.smembers("set"), {"a", "b"}),
        (lambda: client.incr("n"), 1),
        (lambda: client.zscore("sorted", "a"), 1.5),
        (lambda: client.execute_command("GET"), redis.ResponseError),
        (lambda: client.execute_command("GET", "text", NEVER_DECODE=True), "é".encode()),
        (lambda: client.set("k", big, get=True), None),
        (lambda: client.expire("k", 100), True),
        (lambda: client.eval("return {1, 'two', {3, false}}", 0), [1, "two", [3, None]]),
        (lambda: client.eval("return redis.error_reply('MY own')", 0), redis.ResponseError),
        (lambda: client.get("k"), big),
    ]
    outcomes = Line(client, [call for call, _ in calls]).go()
    assert client.dump("text") == redis.Redis(port=server.config.port).dump("text")
    for outcome, (_, wanted) in zip(outcomes, calls, strict=True):
        if isinstance(wanted, type):
            assert isinstance(outcome, wanted)
        else:
            assert outcome == wanted
    assert client.pool_stats().lost == 0


@pytest.mark.parametrize("place", [0, 3], ids=["of the leader", "of a follower"])
def test_reply_that_can_not_be_decoded_concerns_its_own_caller_only(place: int, server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1, decode_responses=True)
    with redis.Redis(port=server.config.port) as writer:
        writer.set("binary", b"\xff\xfe")
    calls: list[Callable[[], object]] = [lambda: client.incr("n") for _ in range(5)]
    calls.insert(place, lambda: client.get("binary"))
    outcomes = Line(client, calls).go()
    assert type(outcomes.pop(place)) is UnicodeDecodeError
    assert outcomes == [1, 2, 3, 4, 5]


def test_an_argument_that_can_not_be_sent_concerns_its_own_caller_only(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1)
    held = client.connection_pool.get_connection()
    with pytest.raises(redis.DataError):
        client.set("k", object())
    client.connection_pool.release(held)
    assert client.pool_stats().waiting == 0
    assert client.incr("n") == 1


# --- who is taken along ---


def test_callers_that_need_a_connection_keep_their_place_in_line(server: Embedded, connect_to: Any, direct: Any) -> None:
    client = connect_to(server, pool_size=1, deadline_s=20.0)
    direct.rpush("queue", "item")
    calls: list[Callable[[], object]] = [
        lambda: client.rpush("k", 0),
        lambda: client.rpush("k", 1),
        lambda: client.pipeline().rpush("k", 2).rpush("k", 3).execute(),
        lambda: client.rpush("k", 4),
        lambda: client.blpop("queue", 5),
        lambda: client.rpush("k", 5),
        lambda: client.transaction(lambda pipe: pipe.multi() or pipe.rpush("k", 6), "k"),
        lambda: client.rpush("k", 7),
        lambda: client.config_get("maxmemory-policy"),
        lambda: client.rpush("k", 8),
    ]
    outcomes = Line(client, calls).go()
    assert outcomes[:8] == [1, 2, [3, 4], 5, (b"queue", b"item"), 6, [7], 8]
    assert outcomes[9] == 9
    assert direct.lrange("k", 0, -1) == list("012345678")


def test_blocking_caller_does_not_hold_up_those_that_were_taken_along_before(
    server: Embedded, connect_to: Any, direct: Any, eventually: Any
) -> None:
    client = connect_to(server, pool_size=1, deadline_s=20.0)
    calls = [lambda: client.incr("n"), lambda: client.incr("n"), lambda: client.blpop("queue", 10), lambda: client.incr("n")]
    line = Line(client, calls)
    line.release()
    eventually(lambda: [task.running for task in line.tasks] == [False, False, True, True])
    assert client.pool_stats().waiting == 1
    direct.rpush("queue", "item")
    assert line.outcomes() == [1, 2, (b"queue", b"item"), 3]


def test_impatient_caller_is_not_taken_along(server: Embedded, connect_to: Any, paused: Any, eventually: Any) -> None:
    """Its command has not been sent, so it knows that nothing was changed."""
    client = connect_to(server, connected=True, pool_size=1, deadline_s=5.0)

    def hasty() -> object:
        with deadline(0.2):
            return client.incr("n")

    line = Line(client, [lambda: client.incr("n"), hasty])
    with paused(server):
        line.release()
        eventually(lambda: not line.tasks[1].running)
        assert line.tasks[0].running
    outcomes = line.outcomes()
    assert (outcomes[0], type(outcomes[1])) == (1, PoolExhausted)
    assert client.get("n") == b"1"


def test_impatient_caller_takes_nobody_along(server: Embedded, connect_to: Any, paused: Any, eventually: Any) -> None:
    """Or its deadline would be theirs."""
    client = connect_to(server, connected=True, pool_size=1, deadline_s=10.0)

    def hasty() -> object:
        with deadline(0.5):
            return client.incr("hasty")

    line = Line(client, [hasty, *[lambda: client.incr("n") for _ in range(5)]])
    with paused(server):
        line.release()
        eventually(lambda: not line.tasks[0].running)
    outcomes = line.outcomes()
    assert type(outcomes[0]) is OutcomeUnknown
    assert sorted(outcomes[1:]) == [1, 2, 3, 4, 5]


def test_leader_near_its_deadline_does_not_end_those_it_takes_along(server: Embedded, connect_to: Any, paused: Any) -> None:
    """It has queued for most of its time; those behind it have just come, and the server stalls for less than they have."""
    client = connect_to(server, connected=True, pool_size=1, deadline_s=1.0)
    line = Line(client, [lambda: client.incr("leader")])
    time.sleep(0.7)  # of 1.0
    for _ in range(5):
        line.join(lambda: client.incr("n"))
    with paused(server):
        line.release()
        assert type(line.tasks[0].result()) is OutcomeUnknown
    assert sorted(map(str, line.outcomes()[1:])) == ["1", "2", "3", "4", "5"]


def test_no_more_bytes_travel_together_than_a_write_should_have(server: Embedded, connect_to: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect_to(server, connected=True, pool_size=1)
    value = b"v" * 30_000
    line = Line(client, [lambda n=n: client.set(f"k{n}", value) for n in range(5)])
    written: list[int] = []
    transmit = _BoundedSocket.transmit

    def noting(bounded: _BoundedSocket, packed: bytes, until_s: float) -> None:
        written.append(len(packed))
        transmit(bounded, packed, until_s)

    monkeypatch.setattr(_BoundedSocket, "transmit", noting)
    assert line.go() == [True] * 5
    assert [size // 30_000 for size in written] == [2, 2, 1]


# --- fairness ---


@pytest.mark.parametrize("threads", [300, pytest.param(1_000, marks=pytest.mark.nightly)])
def test_many_threads_on_ten_connections_do_not_starve(threads: int, own_server: Embedded, connect_to: Any, eventually: Any) -> None:
    """Waits are counted in calls that are served meanwhile; a starving thread waits for nearly all of them."""
    client = connect_to(own_server, pool_size=10, deadline_s=60.0)
    direct = redis.Redis(port=own_server.config.port)
    held = [client.connection_pool.get_connection() for _ in range(10)]
    served = [0]

    def count() -> None:
        for _ in range(30):
            before = len(served)
            number = client.incr("n")
            served.append(number)
            waits.append(number - before)

    waits: list[int] = []
    tasks = [Task(count) for _ in range(threads)]
    eventually(lambda: client.pool_stats().waiting == threads)
    for connection in held:
        client.connection_pool.release(connection)
    seen = [len(direct.client_list()) - 1]
    while any(task.running for task in tasks[::20]):
        seen.append(len(direct.client_list()) - 1)
    assert results(tasks) == [None] * threads
    direct.close()
    assert max(seen) <= 10
    assert sorted(served) == list(range(30 * threads + 1))
    # Each waits for one round of all others, and for those who have their reply already and have not said so.
    assert max(waits) <= 15 * threads, max(waits)


def test_caller_that_is_served_and_asks_again_does_not_overtake(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1)
    line = Line(client, [lambda number=number: [client.rpush("k", number), client.rpush("k", number)] for number in range(20)])
    outcomes = line.go()
    assert max(first for first, _ in outcomes) <= 20 + 20
    assert [first for first, _ in outcomes] == sorted(first for first, _ in outcomes)
