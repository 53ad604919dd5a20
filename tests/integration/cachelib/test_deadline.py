"""Every call ends at its deadline, whatever the server and the network do, and not much later."""

import math
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
from runbook.drills.faults import Proxy, black_hole, half_open, losing_replies, refused, withholding_replies
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, ends_of
from tests.integration.cachelib.commands import SLOW_TO_LOAD, USES, wait_until_loading
from tests.pairs import pairs
from tests.timing import End, end_of

pytestmark = pytest.mark.timeout(60)

DEADLINE_S = 0.3
LONG_S = 10.0

SITUATIONS: dict[str, Callable[[Proxy], Any]] = {"refused": refused, "black hole": black_hole, "half open": half_open}


def ends_of_all_kinds(client: Any, uses: Any = USES) -> list[End]:
    """Let callers of all kinds begin one after another; return how they ended, all of them in time."""
    ends = ends_of([lambda use=use: use(client) for use in [*uses.values()] * 3], spacing_s=0.005)
    # BLPOP asks the server to block for 0.1 s.
    assert [end for end in ends if not end.is_by(DEADLINE_S + 0.1)] == []
    assert client.pool_stats().waiting == 0
    return ends


# --- a server that does not answer ---


@pytest.mark.parametrize(
    ("situation", "connected"),
    pairs([("refused", True), ("black hole", False), ("half open", True), ("paused", False)], [*SITUATIONS, "paused"], [False, True]),
)
def test_every_call_ends_at_its_deadline(
    situation: str, connected: bool, server: Embedded, proxy: Proxy, open_client: Any, paused: Any
) -> None:
    client = open_client(server, port=proxy.port, connected=connected, deadline_s=DEADLINE_S, pool_size=40)
    with paused(server) if situation == "paused" else SITUATIONS[situation](proxy):
        ends = ends_of_all_kinds(client)
    failures = {end.kind for end in ends if isinstance(end.outcome, Exception)}
    assert failures <= {Unavailable, OutcomeUnknown}
    if not connected and situation != "half open":
        assert failures == {Unavailable}
    with deadline(LONG_S):
        assert client.get("k") is None


def test_every_call_to_a_loading_server_ends_at_its_deadline_and_a_later_one_succeeds(start_server: Any, open_client: Any) -> None:
    server = start_server(*SLOW_TO_LOAD, "5000")
    client = open_client(server, deadline_s=DEADLINE_S, pool_size=40)
    with deadline(LONG_S):
        client.mset({f"k{number}": b"v" * 500 for number in range(400)})
        client.save()
    server.kill()
    loaded = threading.Event()

    def ask() -> tuple[list[End], bool, Any]:
        wait_until_loading(server)
        ends, too_late = ends_of_all_kinds(client), loaded.is_set()
        with deadline(LONG_S):
            return ends, too_late, (client.incr("n"), client.pipeline().strlen("k1").execute())

    asking = Task(ask)
    server.start()  # the server ends with the thread that starts it
    loaded.set()
    ends, too_late, replies = asking.result()
    assert not too_late, "it loaded too fast to say anything"
    assert {end.kind for end in ends} == {Unavailable}
    assert replies == (1, [500])


def test_every_call_ends_at_its_deadline_while_others_hold_all_connections(
    server: Embedded, direct: Any, open_client: Any, client_kind: str, eventually: Any
) -> None:
    client = open_client(server, pool_size=2, deadline_s=DEADLINE_S)
    poppers = [Task(lambda: client.blpop("queue", 30)) for _ in range(2)]
    eventually(lambda: direct.info("clients")["blocked_clients"] == 2)
    uses = USES if client_kind == "threads" else {name: use for name, use in USES.items() if name not in ("GET", "INCR", "EVAL")}
    assert {end.kind for end in ends_of_all_kinds(client, uses)} == {PoolExhausted}
    if client_kind != "threads":
        assert client.incr("n") == 1  # the line is everybody's
    direct.rpush("queue", *"ab")
    assert sorted(value for _, value in (popper.result() for popper in poppers)) == [b"a", b"b"]


STALLED: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "GET": (USES["GET"], Unavailable),
    "pipeline of GET": (USES["pipeline"], Unavailable),
    "WATCH": (USES["WATCH"], Unavailable),
    "SET": (lambda client: client.set("k", "v"), OutcomeUnknown),
    "INCR": (USES["INCR"], OutcomeUnknown),
    "MULTI": (USES["MULTI"], OutcomeUnknown),
    "pipeline of INCR": (lambda client: client.pipeline(transaction=False).incr("n").execute(), OutcomeUnknown),
}


@pytest.mark.parametrize("name", STALLED)
def test_stalled_server_leaves_a_write_unknown_and_nothing_else(name: str, server: Embedded, open_client: Any, paused: Any) -> None:
    use, kind = STALLED[name]
    client = open_client(server, connected=True, deadline_s=0.2)
    with paused(server):
        end = end_of(lambda: use(client))
    assert (end.kind, end.is_at(0.2)) == (kind, True)


def test_stalled_server_fails_a_blocking_command_at_deadline_plus_its_timeout(server: Embedded, open_client: Any, paused: Any) -> None:
    client = open_client(server, connected=True, deadline_s=DEADLINE_S)
    with paused(server):
        end = end_of(lambda: client.blpop("nothing", 0.2))
    assert (end.kind, end.is_at(DEADLINE_S + 0.2)) == (OutcomeUnknown, True)


def test_connecting_ends_at_the_deadline_when_nobody_accepts(server: Embedded, open_client: Any) -> None:
    """The listener's queue is full, so the kernel drops what arrives: a connection attempt would take minutes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        client = open_client(server, port=address[1], deadline_s=0.4, connect_timeout_s=0.15)
        end = end_of(lambda: client.incr("k"))
        for filler in fillers:
            filler.close()
    assert (end.kind, end.is_at(0.4)) == (Unavailable, True)
    assert re.search("Timeout connecting|not connected within 0.15 s", str(end.outcome))


def test_handshake_without_an_answer_ends_at_the_connect_timeout(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    """A connection is accepted and never hears a word, as behind a hung load balancer; the next one works."""
    client = open_client(server, port=proxy.port, deadline_s=2.0, connect_timeout_s=0.2)
    with withholding_replies(proxy, b"HELLO") as withheld:
        end = end_of(lambda: client.get("k"))
    assert (end.outcome, withheld.replies, end.is_by(0.3)) == (None, 1, True)


# --- what is said then ---


def test_unavailable_names_the_failure_and_not_just_the_deadline(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    """The wait between two attempts lasts until the deadline; an attempt made then could only fail of the deadline."""
    client = open_client(server, port=proxy.port, deadline_s=0.3, backoff_base_s=100.0, backoff_cap_s=100.0)
    with losing_replies(proxy, b"GET", times=100), pytest.raises(Unavailable, match="closed"):
        client.get("k")


def test_pipeline_that_can_not_load_its_script_says_so_once(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port, deadline_s=DEADLINE_S)
    pipe = client.pipeline()
    client.register_script("return 1")(client=pipe)
    with refused(proxy):
        end = end_of(pipe.execute)
    assert (end.kind, end.is_by(DEADLINE_S), str(end.outcome).count("got no answer")) == (Unavailable, True, 1)


def test_call_within_a_call_ends_with_it(server: Embedded) -> None:
    """A pipeline loads its scripts by calls of their own."""
    attempts = []

    def lose() -> None:
        raise redis.ConnectionError("lost")

    def attempt() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(0.3)  # of 0.4
            lose()
        run(Call(server.config, Journal([]), [("GET", "inner")]), lose)

    with deadline(0.4):
        outer = Call(server.config, Journal([]), [("GET", "outer")])
    end = end_of(lambda: run(outer, attempt))
    assert (end.kind, end.is_by(0.4)) == (Unavailable, True)


# --- deadline() ---


@pytest.mark.parametrize(
    ("configured_s", "outer_s", "inner_s", "bound_s"),
    [(30.0, 0.2, math.inf, 0.2), (0.05, 0.3, math.inf, 0.3), (30.0, 0.2, 30.0, 0.2), (30.0, 30.0, 0.2, 0.2)],
    ids=["shorter than the configured one", "longer than the configured one", "the outer one", "the inner one"],
)
def test_earlier_of_two_nested_deadlines_replaces_the_configured_one(
    configured_s: float, outer_s: float, inner_s: float, bound_s: float, server: Embedded, open_client: Any, paused: Any
) -> None:
    client = open_client(server, connected=True, deadline_s=configured_s)
    with paused(server), deadline(outer_s), deadline(inner_s):
        assert end_of(lambda: client.get("k")).is_at(bound_s)


def test_deadline_bounds_all_calls_of_its_block_together(server: Embedded, open_client: Any, paused: Any) -> None:
    client = open_client(server, connected=True)

    def calls() -> None:
        for use in (USES["GET"], USES["pipeline"], USES["CLIENT ID"], USES["GET"]):
            with pytest.raises(Unavailable):
                use(client)

    with paused(server), deadline(DEADLINE_S):
        assert end_of(calls).is_at(DEADLINE_S)


def test_deadline_ends_with_its_block_and_binds_no_other_thread(server: Embedded, open_client: Any) -> None:
    client, replies = open_client(server, connected=True), []
    with deadline(0.001):
        time.sleep(0.002)
        with pytest.raises(Unavailable):
            client.ping()
        other = threading.Thread(target=lambda: replies.append(client.ping()))
        other.start()
        other.join()
    assert replies == [True]
    assert client.ping()


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_deadline_refuses_what_is_no_time_to_come(timeout_s: float) -> None:
    with pytest.raises(ValueError, match=f"a deadline takes seconds above 0, got {timeout_s}"), deadline(timeout_s):
        pass


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


# --- blocking commands ---

BLOCKING: dict[str, tuple[Any, list[Any]]] = {
    "BLPOP": (lambda client: client.blpop("nothing", 0.4), [None]),
    "BLPOP for ever": (lambda client: client.blpop("queue", 0), [[b"queue", b"v"], (b"queue", b"v")]),
    "XREAD": (lambda client: client.xread({"nothing": "$"}, block=400), [{}, [], None]),
    "pipeline": (lambda client: client.pipeline(transaction=False).blpop("nothing", 0.4).execute(), [[None]]),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_blocking_command_outlasts_the_deadline_and_holds_nobody_up(name: str, server: Embedded, open_client: Any, direct: Any) -> None:
    block, replies = BLOCKING[name]
    client = open_client(server, connected=True, deadline_s=0.3)
    blocked = Task(lambda: block(client))
    for _ in range(35):
        time.sleep(0.01)
        with deadline(LONG_S):
            assert client.get("k") is None
    direct.rpush("queue", "v")
    assert blocked.result() in replies
    assert blocked.took_s > 0.35


def test_explicit_deadline_bounds_a_blocking_command_too(server: Embedded, open_client: Any) -> None:
    client = open_client(server, connected=True)
    with deadline(0.2):
        end = end_of(lambda: client.blpop("nothing", 30))
    assert isinstance(end.outcome, redis.RedisError)
    assert end.is_by(0.2)


def test_missing_server_fails_a_command_that_would_block_for_ever(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port, deadline_s=DEADLINE_S)
    with refused(proxy):
        end = end_of(lambda: client.blpop("queue", 0))
    assert (end.kind, end.is_at(DEADLINE_S)) == (Unavailable, True)


@pytest.mark.parametrize("timeout", [-1, "nan", "soon"])
def test_timeout_of_a_blocking_command_that_makes_no_sense_is_left_to_the_server(timeout: Any, server: Embedded, open_client: Any) -> None:
    with pytest.raises(redis.ResponseError, match="timeout"):
        open_client(server).blpop("nothing", timeout)
