"""Each fault of the network against a real server: that it breaks what it says, counts it, and heals."""

import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runbook.drills.faults import (
    Proxy,
    ProxyClosed,
    bandwidth,
    black_hole,
    cutting_replies,
    delayed,
    flapping,
    half_open,
    losing_replies,
    refused,
    reset,
    withholding_replies,
)
from runbook.drills.faults.resp import Messages
from runbook.targets.embedded import Embedded
from tests.timing import Stopwatch

pytestmark = pytest.mark.timeout(60)

# For how long a side is watched to say that it is silent.
SILENCE_S = 0.1
LONG_S = 10.0

FAULTS = {
    "delayed": lambda proxy: delayed(proxy, 0.01),
    "bandwidth": lambda proxy: bandwidth(proxy, 1000),
    "half_open": half_open,
    "black_hole": black_hole,
    "refused": refused,
    "reset": reset,
    "losing_replies": lambda proxy: losing_replies(proxy, b"INCR"),
    "withholding_replies": lambda proxy: withholding_replies(proxy, b"INCR"),
    "cutting_replies": lambda proxy: cutting_replies(proxy, b"INCR", 1),
    "flapping": lambda proxy: flapping(proxy, LONG_S, LONG_S),
}


class Wire:
    """A plain connection; what it sends and gets is bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), LONG_S)

    def ask(self, request: bytes, reply: bytes) -> None:
        """Send a request and read exactly this reply."""
        self.socket.sendall(request)
        self.expect(reply)

    def expect(self, reply: bytes) -> None:
        got = b""
        while len(got) < len(reply) and (more := self.socket.recv(len(reply) - len(got))):
            got += more
        assert got == reply

    def expect_end(self, *, reset: bool = False) -> None:
        if reset:
            with pytest.raises(ConnectionResetError):
                self.socket.recv(1)
        else:
            assert self.socket.recv(1) == b""

    def expect_silence(self) -> None:
        self.socket.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            self.socket.recv(1)
        self.socket.settimeout(LONG_S)


@pytest.fixture
def proxy(server: Embedded) -> Iterator[Proxy]:
    with Proxy(server.config.port) as proxy:
        yield proxy


@pytest.fixture
def dial(proxy: Proxy) -> Iterator[Callable[[], Wire]]:
    """Make connections through the proxy, which have answered once."""
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(proxy.port))
        wires[-1].ask(b"PING\r\n", b"+PONG\r\n")
        return wires[-1]

    yield connect
    for wire in wires:
        wire.socket.close()


@pytest.fixture
def direct(server: Embedded) -> Iterator[Any]:
    """redis-py's own client, past the proxy, to see what the server holds."""
    with redis.Redis(port=server.config.port, decode_responses=True) as client:
        yield client


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    """redis-py's own client through the proxy, which tries once."""
    with redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0), socket_timeout=LONG_S, decode_responses=True) as client:
        yield client


# --- the proxy ---


def test_proxy_forwards_and_says_when_it_accepted(proxy: Proxy, client: Any) -> None:
    before_ns = time.monotonic_ns()
    client.set("k", "v" * 3_000_000)
    assert client.get("k") == "v" * 3_000_000
    assert [before_ns < accepted_ns < time.monotonic_ns() for accepted_ns in proxy.accepted_ns] == [True]
    assert re.fullmatch(r"<Proxy \d+ to \d+ listening, 1 open, 0 silent, 1 accepted>", repr(proxy))


def test_proxy_serves_many_connections_at_once(proxy: Proxy, direct: Any) -> None:
    def count() -> None:
        with redis.Redis(port=proxy.port) as client:
            for _ in range(50):
                client.incr("n")

    threads = [threading.Thread(target=count) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert direct.get("n") == "1000"


def test_connection_ends_at_once_while_the_server_is_down_and_works_when_it_is_back(own_server: Embedded) -> None:
    with Proxy(own_server.config.port) as proxy, Stopwatch() as watch:
        own_server.kill()
        watch.restart()
        wire = Wire(proxy.port)
        wire.expect_end()
        assert watch.own_s < 1.0
        wire.socket.close()
        assert len(proxy.accepted_ns) == 1
        own_server.start()
        wire = Wire(proxy.port)
        wire.ask(b"PING\r\n", b"+PONG\r\n")
        own_server.kill()
        wire.expect_end()
        wire.socket.close()


def test_client_that_ends_its_side_still_gets_its_reply(dial: Any) -> None:
    wire = dial()
    wire.socket.sendall(b"ECHO last\r\n")
    wire.socket.shutdown(socket.SHUT_WR)
    wire.expect(b"$4\r\nlast\r\n")
    wire.expect_end()


def test_client_that_goes_is_gone_for_the_server_too(proxy: Proxy, dial: Any, direct: Any, eventually: Any) -> None:
    count = direct.info("clients")["connected_clients"]
    wire = dial()
    assert direct.info("clients")["connected_clients"] == count + 1
    wire.socket.close()
    eventually(lambda: direct.info("clients")["connected_clients"] == count)
    eventually(lambda: " 0 open" in repr(proxy))


def test_close_ends_connections_port_and_thread(server: Embedded) -> None:
    threads = threading.active_count()
    proxy = Proxy(server.config.port)
    wire = Wire(proxy.port)
    wire.ask(b"PING\r\n", b"+PONG\r\n")
    proxy.close()
    proxy.close()
    wire.expect_end()
    wire.socket.close()
    assert threading.active_count() == threads
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", proxy.port)) != 0
    assert "closed, 0 open" in repr(proxy)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_on_a_closed_proxy_says_so(fault: Any, server: Embedded) -> None:
    with Proxy(server.config.port) as proxy:
        pass
    with pytest.raises(ProxyClosed, match=r"is closed: end the fault's block before"), fault(proxy):
        pass


# --- what all faults have in common ---


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_heals_after_an_exception(fault: Any, proxy: Proxy, dial: Any) -> None:
    old = dial()
    with pytest.raises(LookupError), fault(proxy) as impact:
        raise LookupError
    assert impact.healed_ns > impact.broken_ns
    assert proxy.toxics == []
    dial().ask(b"INCR k\r\n", b":1\r\n")
    old.socket.close()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_outlives_the_close_of_its_proxy(fault: Any, proxy: Proxy) -> None:
    with fault(proxy):
        proxy.close()


DOUBTS = {
    "delayed": "no delayed reply arrived: inside the block, send a command",
    "bandwidth": "no slowed reply arrived: inside the block, send a command",
    "half_open": "no connection was open: connect before the block",
    "black_hole": "no connection was open, and none was made",
    "reset": "no connection was open: connect before the block",
    "losing_replies": "no command held b'INCR'",
    "withholding_replies": "no command held b'INCR'",
    "cutting_replies": "no command held b'INCR'",
    "flapping": "the port was never closed: stay in the block for longer than up_s=10",
}


@pytest.mark.parametrize("name", DOUBTS)
def test_fault_that_affected_nothing_says_so(name: str, proxy: Proxy) -> None:
    with FAULTS[name](proxy) as impact:
        pass
    (doubt,) = impact.doubts
    assert doubt.startswith(DOUBTS[name])


def test_port_that_did_not_close_says_so(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proxy, "refuse", lambda self: None)
    with refused(proxy) as impact:
        pass
    assert impact.doubts == ("its port did not refuse a connection: it accepted it", "the port never refused a connection")


@pytest.mark.parametrize("name", ["half_open", "black_hole"])
def test_silence_that_nobody_heard_says_so(name: str, proxy: Proxy, dial: Any) -> None:
    wire = dial()
    with FAULTS[name](proxy) as impact:
        assert impact.connections == 1
    assert impact.doubts == ("nobody sent anything over a silent connection: use one inside the block",)
    wire.socket.close()


def test_reply_that_the_server_did_not_give_is_not_counted_as_lost(proxy: Proxy, dial: Any, direct: Any) -> None:
    wire = dial()
    with losing_replies(proxy, b"BLPOP") as lost:
        wire.socket.sendall(b"BLPOP queue 0\r\n")
        wire.expect_silence()
    assert (lost.connections, lost.replies) == (1, 0)
    assert lost.doubts == ("the server had not answered a command that held b'BLPOP': wait for the failure inside the block",)
    direct.rpush("queue", "v")
    wire.expect(b"*2\r\n$5\r\nqueue\r\n$1\r\nv\r\n")


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (lambda proxy: delayed(proxy, 0), "delays nothing: give more than 0"),
        (lambda proxy: bandwidth(proxy, 0), "lets nothing pass: give 1 or more"),
        (lambda proxy: flapping(proxy, 1, 0), "can't flap: give more than 0 for both"),
        (lambda proxy: losing_replies(proxy, b"SET", times=0), "meets no command: give 1 or more"),
        (lambda proxy: cutting_replies(proxy, b"GET", -1), "is not a length: give 0 or more"),
    ],
)
def test_senseless_argument_is_refused_with_advice(fault: Any, advice: str, proxy: Proxy) -> None:
    with pytest.raises(ValueError, match=advice), fault(proxy):
        pass


# --- faults of the connection ---


def test_delay_is_that_of_each_reply_in_order(proxy: Proxy, dial: Any) -> None:
    wire = dial()
    with Stopwatch() as watch:
        with delayed(proxy, 0.5) as impact:
            watch.restart()
            wire.socket.sendall(b"ECHO a\r\n")
            time.sleep(0.25)
            wire.socket.sendall(b"ECHO b\r\n")
            wire.expect(b"$1\r\na\r\n")
            assert watch.passed_s >= 0.5
            assert watch.own_s < 0.7  # which the second request didn't lengthen
            wire.expect(b"$1\r\nb\r\n")
            assert watch.passed_s >= 0.75
            assert watch.own_s < 1.2
            wire.socket.sendall(b"ECHO c\r\n")
            time.sleep(0.05)  # so that the server's reply is held when the fault ends
        wire.socket.sendall(b"ECHO d\r\n")
        wire.expect(b"$1\r\nc\r\n$1\r\nd\r\n")
        assert impact.replies == 2
        assert 0.5 <= impact.least_delay_s < 1.2
        assert impact.doubts == ()
        watch.restart()
        wire.ask(b"PING\r\n", b"+PONG\r\n")
        assert watch.own_s < 0.4


def test_delayed_replies_do_not_wait_for_each_other(proxy: Proxy, dial: Any) -> None:
    wires = [dial() for _ in range(10)]
    with delayed(proxy, 0.2) as impact, Stopwatch() as watch:
        for wire in wires:
            wire.socket.sendall(b"PING\r\n")
        for wire in wires:
            wire.expect(b"+PONG\r\n")
        assert watch.passed_s >= 0.2
        assert watch.own_s < 1.0  # one after the other they take two seconds
    assert impact.replies == 10


def test_bandwidth_is_that_of_each_connection_and_piece_follows_piece(proxy: Proxy, dial: Any, direct: Any) -> None:
    direct.set("k", "v" * 995)
    reply = b"$995\r\n" + b"v" * 995 + b"\r\n"
    slow, other = dial(), dial()
    with bandwidth(proxy, 1000) as impact, Stopwatch() as watch:
        slow.socket.sendall(b"GET k\r\n")
        slow.expect(reply[:250])
        assert watch.own_s < 0.7  # the first pieces don't wait for the last
        other.ask(b"PING\r\n", b"+PONG\r\n")
        assert watch.own_s < 0.7  # nor does another connection
        slow.expect(reply[250:])
        assert watch.passed_s >= 1.0
        assert watch.own_s < 2.0
    assert (impact.slowed_bytes, impact.doubts) == (len(reply) + len(b"+PONG\r\n"), ())


def test_end_of_a_narrow_bandwidth_delivers_what_is_held(proxy: Proxy, dial: Any, direct: Any) -> None:
    direct.set("k", "v" * 100_000)
    wire = dial()
    with bandwidth(proxy, 1000) as impact:
        wire.socket.sendall(b"GET k\r\n")
        wire.expect(b"$100000\r\n")
    wire.expect(b"v" * 100_000 + b"\r\n")
    wire.ask(b"PING\r\n", b"+PONG\r\n")
    assert 50 <= impact.slowed_bytes < 10_000


def test_lost_reply_waits_behind_slowed_ones(proxy: Proxy, dial: Any) -> None:
    wire = dial()
    with bandwidth(proxy, 100), losing_replies(proxy, b"INCR") as lost:
        wire.socket.sendall(b"ECHO a\r\nINCR k\r\n")
        wire.expect(b"$1\r\na\r\n")
        wire.expect_end()
    assert lost.replies == 1


def test_half_open_connections_stay_silent_and_new_ones_work(proxy: Proxy, dial: Any, direct: Any, eventually: Any) -> None:
    old = dial()
    with half_open(proxy) as impact:
        old.socket.sendall(b"SET k old\r\n")
        dial().ask(b"SET other new\r\n", b"+OK\r\n")
        old.expect_silence()
        assert (impact.connections, impact.swallowed_bytes, impact.doubts) == (1, 11, ())
    old.socket.sendall(b"SET k old\r\n")
    old.expect_silence()
    assert impact.swallowed_bytes == 22
    assert direct.mget("k", "other") == [None, "new"]
    assert " 2 open, 1 silent" in repr(proxy)
    old.socket.close()
    eventually(lambda: " 1 open, 0 silent" in repr(proxy))


def test_half_open_connection_does_not_learn_that_the_server_ended_it(proxy: Proxy, dial: Any, direct: Any) -> None:
    old = dial()
    with half_open(proxy), refused(proxy), reset(proxy):
        direct.client_kill_filter(_type="normal", skipme=True)
        old.expect_silence()
    old.expect_silence()
    proxy.close()
    old.expect_end()


def test_half_open_connection_does_not_get_the_reply_that_was_on_its_way(proxy: Proxy, dial: Any, direct: Any) -> None:
    old = dial()
    old.socket.sendall(b"BLPOP queue 0\r\n")
    with half_open(proxy) as impact:
        while not direct.llen("queue"):  # until the waiting connection has taken its element
            direct.rpush("queue", "v", "v")
        old.expect_silence()
    assert impact.swallowed_bytes == len(b"*2\r\n$5\r\nqueue\r\n$1\r\nv\r\n")


def test_black_hole_swallows_old_and_new_connections_until_it_heals(proxy: Proxy, dial: Any, direct: Any) -> None:
    old = dial()
    with black_hole(proxy) as impact:
        new = Wire(proxy.port)
        for wire in (old, new):
            wire.socket.sendall(b"SET k v\r\n")
            wire.expect_silence()
        assert (impact.connections, impact.swallowed_bytes, impact.doubts) == (2, 18, ())
    old.expect_end()
    new.expect_end()
    new.socket.close()
    assert direct.get("k") is None
    dial().ask(b"SET k v\r\n", b"+OK\r\n")


def test_black_hole_accepts_even_while_the_server_is_down(own_server: Embedded) -> None:
    with Proxy(own_server.config.port) as proxy, black_hole(proxy):
        own_server.kill()
        wire = Wire(proxy.port)
        wire.expect_silence()
        wire.socket.close()


def test_refused_port_cuts_refuses_and_comes_back_the_same(proxy: Proxy, dial: Any, client: Any) -> None:
    old, port = dial(), proxy.port
    with refused(proxy) as impact:
        old.expect_end()
        for _ in range(20):
            with pytest.raises(redis.ConnectionError, match="refused"):
                client.ping()
        assert "refusing" in repr(proxy)
    assert (impact.connections, impact.refused, impact.doubts) == (1, 1, ())
    assert len(proxy.accepted_ns) == 1
    assert client.ping()
    assert proxy.port == port


def test_reset_is_an_rst_for_those_that_exist(proxy: Proxy, dial: Any, direct: Any) -> None:
    wires = [dial(), dial()]
    with reset(proxy) as impact:
        for wire in wires:
            wire.expect_end(reset=True)
        dial()
    assert (impact.connections, impact.doubts) == (2, ())


def test_flapping_port_is_closed_and_opened_in_turn(proxy: Proxy, client: Any, eventually: Any) -> None:
    def works() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    states: list[bool] = []

    def has_turned(times: int) -> bool:
        states.append(works())
        return sum(one != next_one for one, next_one in itertools.pairwise(states)) >= times

    with flapping(proxy, up_s=0.2, down_s=0.05) as impact:
        assert eventually(lambda: has_turned(4))
    assert states[0], "it is open first"
    assert impact.connections >= 2
    assert impact.refused >= 2
    assert impact.doubts == ()
    assert client.ping()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flapping")]


# --- faults of a reply ---


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_command_whose_reply_is_lost_has_been_executed(reset: bool, proxy: Proxy, dial: Any, direct: Any) -> None:
    wire, other = dial(), dial()
    with losing_replies(proxy, b"incr", times=2, reset=reset) as lost:
        for number in (1, 2):
            wire.socket.sendall(b"INCR k\r\n")
            wire.expect_end(reset=reset)
            assert direct.get("k") == str(number)
            assert (lost.connections, lost.replies, lost.swallowed_bytes) == (number, number, 4 * number)
            wire = dial()
        other.ask(b"INCR k\r\n", b":3\r\n")
    assert lost.doubts == ()


def test_of_a_batch_the_earlier_replies_arrive_and_the_later_are_lost(proxy: Proxy, dial: Any, direct: Any) -> None:
    wire = dial()
    with losing_replies(proxy, b"INCR") as lost:
        wire.socket.sendall(b"ECHO a\r\nINCR k\r\nINCR k\r\nECHO b\r\n")
        wire.expect(b"$1\r\na\r\n")
        wire.expect_end()
    assert (direct.get("k"), lost.connections, lost.replies) == ("2", 1, 1)


def test_request_in_pieces_is_recognized(proxy: Proxy, dial: Any, direct: Any) -> None:
    wire = dial()
    with losing_replies(proxy, b"needle") as lost:
        for byte in b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$8\r\na needle\r\n":
            wire.socket.sendall(bytes([byte]))
            time.sleep(0.001)  # so that it leaves alone
        wire.expect_end()
    assert (direct.get("key"), lost.replies) == ("a needle", 1)


def test_replies_that_were_due_before_the_fault_are_not_taken_for_the_lost_one(proxy: Proxy, dial: Any, direct: Any) -> None:
    wire = dial()
    wire.socket.sendall(b"BLPOP queue 0\r\n")
    with losing_replies(proxy, b"INCR") as lost:
        wire.socket.sendall(b"INCR k\r\n")
        wire.expect_silence()
        direct.rpush("queue", "v")
        wire.expect(b"*2\r\n$5\r\nqueue\r\n$1\r\nv\r\n")
        wire.expect_end()
    assert lost.replies == 1


def test_transaction_and_large_reply_are_lost_as_a_whole(proxy: Proxy, client: Any, direct: Any) -> None:
    direct.set("big", "v" * 1_000_000)
    client.ping()
    with losing_replies(proxy, b"EXEC") as lost, pytest.raises(redis.ConnectionError):
        client.pipeline().incr("k").get("big").mget("big", "big").execute()
    assert direct.get("k") == "1"
    assert lost.replies == 1
    assert lost.swallowed_bytes > 3_000_000


def test_lost_reply_waits_behind_delayed_ones(proxy: Proxy, dial: Any) -> None:
    wire = dial()
    with delayed(proxy, 0.1) as late, losing_replies(proxy, b"INCR") as lost:
        wire.socket.sendall(b"ECHO a\r\nINCR k\r\n")
        wire.expect(b"$1\r\na\r\n")
        wire.expect_end()
    assert (late.replies, lost.replies) == (1, 1)


def test_withheld_reply_leaves_the_connection_open_and_silent(proxy: Proxy, dial: Any, direct: Any) -> None:
    wire = dial()
    with withholding_replies(proxy, b"INCR") as withheld:
        wire.socket.sendall(b"ECHO a\r\nINCR k\r\n")
        wire.expect(b"$1\r\na\r\n")
        wire.expect_silence()
        dial().ask(b"INCR k\r\n", b":2\r\n")
    wire.socket.sendall(b"INCR k\r\n")
    wire.expect_silence()
    assert direct.get("k") == "2"
    assert (withheld.replies, withheld.doubts) == (1, ())


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_cut_reply_ends_after_some_bytes(reset: bool, proxy: Proxy, dial: Any, direct: Any) -> None:
    direct.set("k", "0123456789")
    wire = dial()
    with cutting_replies(proxy, b"GET", 7, reset=reset) as cut:
        wire.socket.sendall(b"ECHO a\r\nGET k\r\n")
        wire.expect(b"$1\r\na\r\n$10\r\n01")
        wire.expect_end(reset=reset)
    assert (cut.replies, cut.swallowed_bytes, cut.doubts) == (1, 10, ())
    dial().ask(b"GET k\r\n", b"$10\r\n0123456789\r\n")


def test_reply_too_short_to_be_cut_says_so(proxy: Proxy, dial: Any) -> None:
    wire = dial()
    with cutting_replies(proxy, b"GET", 100) as cut:
        wire.ask(b"GET k\r\n", b"$-1\r\n")
        wire.expect_end()
    assert cut.doubts == ("no reply to a command that held b'GET' was longer than after_bytes=100",)


# --- where messages end ---

MESSAGES = {
    "simple": b"+OK\r\n",
    "error": b"-ERR no\r\n",
    "bulk": b"$4\r\n\r\n\r\n\r\n",
    "empty bulk": b"$0\r\n\r\n",
    "null": b"$-1\r\n",
    "null array": b"*-1\r\n",
    "empty array": b"*0\r\n",
    "nested": b"*3\r\n*2\r\n:1\r\n$1\r\na\r\n*0\r\n_\r\n",
    "map": b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#t\r\n",
    "set": b"~2\r\n,1.5\r\n(123\r\n",
    "verbatim": b"=7\r\ntxt:abc\r\n",
    "attribute": b"|1\r\n+ttl\r\n:1\r\n*1\r\n+a\r\n",
    "inline": b"SET k v\n",
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_message_ends_at_its_last_byte_however_it_arrives(message: bytes) -> None:
    push = b">2\r\n+message\r\n$1\r\na\r\n"
    messages, stream = Messages(), message + push + message
    assert messages.ends(stream) == [len(message), len(stream)]
    assert [bool(messages.ends(stream[at : at + 1])) for at in range(len(stream))] == [
        at + 1 in (len(message), len(stream)) for at in range(len(stream))
    ]
