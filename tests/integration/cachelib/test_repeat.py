"""What is sent again after a lost reply: what may be repeated, and what a caller declares idempotent."""

import threading
import time
from typing import Any

import pytest
import redis

from cachelib import OutcomeUnknown, Unavailable, deadline, idempotent
from runbook.drills.faults import Proxy, losing_replies
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task
from tests.pairs import pairs
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)

# More than the buffers of both ends of a loopback connection take.
HUGE = b"x" * 16 * 2**20

REPEATABLE: dict[str, tuple[bytes, Any, Any]] = {
    "GET": (b"GET", lambda client: client.get("was"), b"here"),
    "SET": (b"SET", lambda client: client.set("k", "v"), True),
    # Its reply may differ: the first execution deleted one key, the repeated one none.
    "DEL": (b"DEL", lambda client: client.delete("was"), 0),
    "HSET": (b"HSET", lambda client: client.hset("h", mapping={"f": 1}), 0),
    "MULTI": (b"EXEC", lambda client: client.pipeline().set("k", "v").get("was").execute(), [True, b"here"]),
    "pipeline": (b"MGET", lambda client: client.pipeline(transaction=False).mget("was").set("k", "v").execute(), [[b"here"], True]),
    "WATCH": (b"WATCH", lambda client: client.transaction(lambda pipe: pipe.get("was") and None, "was"), []),
}

INCREMENTS: dict[str, tuple[bytes, Any]] = {
    "INCR": (b"INCR", lambda client: client.incr("k")),
    "EVAL": (b"EVAL", lambda client: client.eval("return redis.call('INCR', KEYS[1])", 1, "k")),
    "MULTI": (b"EXEC", lambda client: client.pipeline().incr("k").execute()[0]),
    "pipeline": (b"INCR", lambda client: client.pipeline(transaction=False).incr("k").execute()[0]),
    # A command that goes redis-py's way.
    "in lower case": (b"XADD", lambda client: client.execute_command("xadd", "k", "*", "f", "v") and client.xlen("k")),
}


@pytest.fixture
def client(server: Embedded, proxy: Proxy, open_client: Any) -> Any:
    """A client behind the proxy, its connections made."""
    return open_client(server, port=proxy.port, deadline_s=10.0, connected=True)


@pytest.mark.parametrize(
    ("name", "by_reset"), pairs([*((name, False) for name in REPEATABLE), ("GET", True), ("MULTI", True)], REPEATABLE, [False, True])
)
def test_repeatable_command_whose_reply_is_lost_is_sent_again_until_it_succeeds(
    name: str, by_reset: bool, client: Any, proxy: Proxy, direct: Any
) -> None:
    word, command, reply = REPEATABLE[name]
    direct.set("was", "here")
    with losing_replies(proxy, word, times=3, reset=by_reset) as lost:
        assert command(client) == reply
    stats = client.pool_stats()
    assert (lost.replies, stats.retried, stats.lost, stats.made - stats.lost) == (3, 3, 3, stats.idle)


@pytest.mark.parametrize("name", INCREMENTS)
def test_call_declared_idempotent_is_sent_again_and_the_same_call_outside_the_block_is_not(name: str, client: Any, proxy: Proxy) -> None:
    word, increment = INCREMENTS[name]
    with losing_replies(proxy, word, times=2) as lost, idempotent():
        assert increment(client) == 3  # each execution counts, and the caller has said that this is well
    assert lost.replies == 2
    with losing_replies(proxy, word, times=2) as lost, pytest.raises(OutcomeUnknown):
        increment(client)
    assert lost.replies == 1


def test_declaration_ends_with_its_block_even_by_an_error_and_may_be_nested(client: Any, proxy: Proxy) -> None:
    with pytest.raises(LookupError), idempotent():  # noqa: PT012
        with idempotent():
            pass
        with losing_replies(proxy, b"INCR"):
            assert client.incr("k") == 2
        raise LookupError
    with losing_replies(proxy, b"INCR"), pytest.raises(OutcomeUnknown):
        client.incr("k")


def test_declaration_of_one_thread_is_not_that_of_another(client: Any, proxy: Proxy) -> None:
    declared, done = threading.Event(), threading.Event()

    def declare() -> None:
        with idempotent():
            declared.set()
            done.wait(20.0)

    declaring = Task(declare)
    declared.wait(20.0)
    with losing_replies(proxy, b"INCR", times=2), pytest.raises(OutcomeUnknown):
        client.incr("k")
    done.set()
    declaring.result()


def test_call_declared_idempotent_has_an_unknown_outcome_at_the_deadline(client: Any, proxy: Proxy) -> None:
    with losing_replies(proxy, b"INCR", times=1_000), idempotent(), deadline(0.3):
        end = end_of(lambda: client.incr("k"))
    assert (end.kind, end.took_s >= 0.2, end.is_by(0.3)) == (OutcomeUnknown, True, True)
    assert " attempts" in str(end.outcome)


def test_declaration_does_not_undo_a_refusal(client: Any) -> None:
    client.set("k", "text")
    with idempotent(), pytest.raises(redis.ResponseError):
        client.incr("k")


# --- a command that left in part ---


@pytest.mark.parametrize(
    "write",
    [lambda client: client.append("k", HUGE), lambda client: client.eval("return redis.call('APPEND', KEYS[1], ARGV[1])", 1, "k", HUGE)],
    ids=["APPEND", "EVAL"],
)
def test_single_command_whose_end_never_left_was_not_applied(
    write: Any, server: Embedded, connect_to: Any, paused: Any, direct: Any
) -> None:
    client = connect_to(server, connected=True, deadline_s=0.3)
    with paused(server):
        end = end_of(lambda: write(client))
    assert (end.kind, end.is_at(0.3)) == (Unavailable, True)
    assert "changed nothing" in str(end.outcome)
    with deadline(5.0):
        assert client.incr("n") == 1
    assert direct.exists("k") == 0
    assert client.pool_stats().unknown == 0


def test_pipeline_whose_end_never_left_may_have_been_applied_in_part(server: Embedded, connect_to: Any, paused: Any, direct: Any) -> None:
    client = connect_to(server, connected=True, deadline_s=1.0)  # of which it takes a part to pack the commands
    with paused(server), pytest.raises(OutcomeUnknown):
        client.pipeline(transaction=False).incr("n").append("k", HUGE).execute()
    with deadline(5.0):
        client.ping()
    assert direct.exists("k") == 0
    assert direct.get("n") in (None, "1")


def test_huge_value_reaches_a_server_that_pauses_for_a_while(server: Embedded, open_client: Any, paused: Any, direct: Any) -> None:
    client = open_client(server, connected=True, deadline_s=20.0)
    with paused(server):
        writer = Task(lambda: client.append("k", HUGE))
        time.sleep(0.1)  # the length of the stall
    assert writer.result() == len(HUGE)
    assert direct.strlen("k") == len(HUGE)
