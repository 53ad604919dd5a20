"""What a caller says of its call, and what is known of a command that left only in part."""

import threading
import time
from typing import Any

import pytest
import redis

from cachelib import OutcomeUnknown, Unavailable, deadline, idempotent
from runbook.drills.faults import Proxy, losing_replies
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(60)

# More than the buffers of both ends of a loopback connection take.
HUGE = b"x" * 32 * 2**20


@pytest.fixture
def client(server: Embedded, proxy: Proxy, connect_to: Any) -> Any:
    """A client behind the proxy, its first connection made."""
    return connect_to(server, port=proxy.port, deadline_s=5.0, connected=True)


# --- `with idempotent():` ---

INCREMENTS = {
    "INCR": (b"INCR", lambda client: client.incr("k")),
    "EVAL": (b"EVAL", lambda client: client.eval("return redis.call('INCR', KEYS[1])", 1, "k")),
    "MULTI": (b"EXEC", lambda client: client.pipeline().incr("k").execute()[0]),
    "pipeline": (b"INCR", lambda client: client.pipeline(transaction=False).incr("k").execute()[0]),
    # A command that goes redis-py's way.
    "in lower case": (b"XADD", lambda client: client.execute_command("xadd", "k", "*", "f", "v") and client.xlen("k")),
}


@pytest.mark.parametrize(("word", "increment"), INCREMENTS.values(), ids=INCREMENTS)
def test_call_declared_idempotent_is_sent_again_after_a_lost_reply(word: bytes, increment: Any, client: Any, proxy: Proxy) -> None:
    with losing_replies(proxy, word, times=2) as lost, idempotent():
        assert increment(client) == 3  # each execution counts, and the caller has said that this is well
    assert lost.replies == 2


@pytest.mark.parametrize(("word", "increment"), INCREMENTS.values(), ids=INCREMENTS)
def test_the_same_call_is_not_sent_again_without_the_word(word: bytes, increment: Any, client: Any, proxy: Proxy) -> None:
    with idempotent():
        increment(client)
    with losing_replies(proxy, word, times=2) as lost, pytest.raises(OutcomeUnknown):
        increment(client)
    assert lost.replies == 1


def test_the_word_ends_with_its_block_even_by_an_error_and_may_be_nested(client: Any, proxy: Proxy) -> None:
    with pytest.raises(LookupError), idempotent():  # noqa: PT012
        with idempotent():
            pass
        with losing_replies(proxy, b"INCR"):
            assert client.incr("k") == 2
        raise LookupError
    with losing_replies(proxy, b"INCR"), pytest.raises(OutcomeUnknown):
        client.incr("k")


def test_the_word_of_one_thread_is_not_that_of_another(client: Any, proxy: Proxy) -> None:
    said, done = threading.Event(), threading.Event()

    def say() -> None:
        with idempotent():
            said.set()
            done.wait(20.0)

    speaker = threading.Thread(target=say)
    speaker.start()
    said.wait(20.0)
    with losing_replies(proxy, b"INCR", times=2), pytest.raises(OutcomeUnknown):
        client.incr("k")
    done.set()
    speaker.join()


def test_of_those_who_travel_in_one_write_only_the_declared_are_sent_again(
    server: Embedded, proxy: Proxy, direct: Any, connect_to: Any, eventually: Any
) -> None:
    client = connect_to(server, port=proxy.port, pool_size=1, connected=True)
    pool, outcomes = client.connection_pool, {}
    held = pool.get_connection()

    def write(number: int, declared: bool) -> None:
        try:
            if declared:
                with idempotent():
                    outcomes[number] = client.incr(f"n{number}")
            else:
                outcomes[number] = client.incr(f"n{number}")
        except OutcomeUnknown:
            outcomes[number] = "unknown"

    threads = []
    for number in range(6):
        threads.append(threading.Thread(target=write, args=(number, number % 2 == 1)))
        threads[-1].start()
        eventually(lambda number=number: client.pool_stats().waiting == number + 1)
    with losing_replies(proxy, b"INCR"):
        pool.release(held)
        for thread in threads:
            thread.join()
    assert outcomes == {0: "unknown", 1: 2, 2: "unknown", 3: 2, 4: "unknown", 5: 2}
    assert [direct.get(f"n{number}") for number in range(6)] == ["1", "2", "1", "2", "1", "2"]


def test_a_declared_call_has_an_unknown_outcome_at_the_deadline(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=0.2)
    with paused(server), idempotent(), pytest.raises(OutcomeUnknown):
        client.incr("k")


def test_the_word_does_not_undo_a_refusal(client: Any) -> None:
    client.set("k", "text")
    with idempotent(), pytest.raises(redis.ResponseError):
        client.incr("k")


def test_idempotent_and_deadline_go_together(client: Any, proxy: Proxy) -> None:
    started_s = time.monotonic()
    with (
        losing_replies(proxy, b"INCR", times=1_000),
        idempotent(),
        deadline(0.3),
        pytest.raises(OutcomeUnknown, match=r"in \d+ attempts"),
    ):
        client.incr("k")
    assert 0.2 <= time.monotonic() - started_s < 0.8


# --- a command that left in part ---


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.append("k", HUGE),
        lambda client: client.set("k", HUGE),
        lambda client: client.rpush("k", HUGE),
        lambda client: client.eval("return redis.call('APPEND', KEYS[1], ARGV[1])", 1, "k", HUGE),
    ],
    ids=["APPEND", "SET", "RPUSH", "EVAL"],
)
def test_single_command_whose_end_never_left_was_not_applied(
    write: Any, server: Embedded, connect_to: Any, paused: Any, direct: Any
) -> None:
    client = connect_to(server, connected=True, deadline_s=0.5)
    with paused(server):
        started_s = time.monotonic()
        with pytest.raises(Unavailable, match="changed nothing"):
            write(client)
        assert 0.4 <= time.monotonic() - started_s < 1.0
    assert direct.exists("k") == 0
    with deadline(5.0):
        assert client.incr("n") == 1
    assert direct.exists("k") == 0
    assert client.pool_stats().unknown == 0


def test_pipeline_whose_end_never_left_may_have_been_applied_in_part(server: Embedded, connect_to: Any, paused: Any, direct: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=0.5)
    with paused(server), pytest.raises(OutcomeUnknown):
        client.pipeline(transaction=False).incr("n").append("k", HUGE).execute()
    with deadline(5.0):
        client.ping()
    assert direct.exists("k") == 0
    assert direct.get("n") in (None, "1")


def test_huge_value_reaches_a_server_that_pauses_for_a_while(server: Embedded, connect_to: Any, paused: Any, direct: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=20.0)
    lengths: list[int] = []
    with paused(server):
        writer = threading.Thread(target=lambda: lengths.append(client.append("k", HUGE)))
        writer.start()
        time.sleep(0.2)  # the length of the stall
    writer.join()
    assert lengths == [len(HUGE)]
    assert direct.strlen("k") == len(HUGE)
