"""Servers without a database, which are the control of a load: an echo, and a stub for the client library."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from cachelib import Config, connect
from runbook.load.echo import echo_server, stub_server
from runbook.load.engine import offer
from runbook.load.placement import cores
from runbook.load.plan import Control, Plan
from runbook.load.recording import RESPONSE
from runbook.load.sockets import LoadError, dial, dialled
from runbook.load.traffic import Traffic


@pytest.fixture
def echo() -> Iterator[Config]:
    with echo_server() as server:
        yield server.config


def _traffic(size_bytes: int = 64) -> Traffic:
    return Traffic("test:", operations={"ECHO": 1}, sizes_bytes={size_bytes: 1}, keys=10)


def _receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        data = connection.recv(1 << 16)
        assert data, f"the connection ended after {len(received)} of {count} bytes"
        received += data
    return received


@pytest.mark.parametrize("size_bytes", [1, 64, 100_000])
def test_an_open_loop_of_echoes_takes_it_for_a_server(echo: Config, size_bytes: int) -> None:
    made = offer(Plan(echo, _traffic(size_bytes), duration_s=0.3, connections=4, rate_per_s=200))
    assert not made.failed()
    assert made.lost == 0
    assert made.count("ECHO") == made.sent > 0


def test_a_closed_loop_of_many_echoes_at_once_is_answered_in_order(echo: Config) -> None:
    made = offer(Plan(echo, _traffic(1000), duration_s=0.2, connections=20, depth=16))
    assert not made.failed()
    assert made.count() > 0


def test_what_fills_every_buffer_on_the_way_comes_back_whole(echo: Config) -> None:
    pattern = os.urandom(1 << 20)
    sent = b""
    with dialled(echo, 1) as (connection,):
        while select.select([], [connection], [], 0.3)[1]:  # nothing is read yet, so in the end nothing more can be sent
            sent += pattern[: connection.send(pattern)]
        connection.settimeout(60)
        assert len(sent) > 100_000
        assert _receive(connection, len(sent)) == sent


def test_only_the_first_message_of_a_connection_is_a_greeting(echo: Config) -> None:
    with dialled(echo, 2) as connections:
        for connection in connections:
            connection.settimeout(30)
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert _receive(connection, 14) == b"*1\r\n$4\r\nPING\r\n"


def test_a_connection_that_was_reset_ends_no_other(echo: Config) -> None:
    with dialled(echo, 1) as (kept,):
        for _ in range(3):
            with dialled(echo, 1) as (reset,):
                reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                reset.send(b"x" * 1000)
        kept.settimeout(30)
        kept.sendall(b"still there")
        assert _receive(kept, 11) == b"still there"


def test_it_ends_with_the_block_after_an_exception_too() -> None:
    with pytest.raises(RuntimeError, match="of the test"), echo_server() as server, dialled(server.config, 1):
        raise RuntimeError("of the test")
    with pytest.raises(LoadError, match="Connection refused"):
        dial(server.config, 1)


def test_its_port_lies_below_the_range_of_outgoing_connections(echo: Config) -> None:
    assert echo.host == "127.0.0.1"
    assert 20_000 <= echo.port < 30_000


@pytest.mark.skipif(not cores(), reason="the system does not tell which core runs what")
def test_it_runs_on_the_core_that_it_was_given() -> None:
    with echo_server(cores()[-1]) as server:
        assert offer(Plan(server.config, _traffic(), duration_s=0.1, rate_per_s=100), cores=cores()[:1]).count() > 0
        assert os.sched_getaffinity(server.pid) == {cores()[-1]}


def test_a_stub_answers_the_client_library_as_a_redis_does_but_keeps_nothing() -> None:
    with stub_server(size_bytes=5) as server, connect(server.config) as client:
        assert client.ping() is True
        assert client.set("key", b"value") is True
        assert client.get("key") == client.get("another") == b"xxxxx"
        assert client.set("key", b"y" * 1_000_000) is True  # arrives in many pieces


def test_a_load_with_a_control_is_answered_by_both(echo: Config) -> None:
    with echo_server() as control:
        plan = Plan(echo, _traffic(), duration_s=0.5, connections=4, rate_per_s=400, control=Control(control.config, control.pid, None))
        made = offer(plan)
    assert made.control is not None
    assert (made.count(), made.control.count()) == (pytest.approx(200, abs=2), pytest.approx(200, abs=2))
    assert not made.failed()
    assert not made.control.failed()
    assert len(made.control.histogram(RESPONSE)) == made.control.count()


def test_a_high_rate_takes_only_some_of_its_calls_to_the_control(echo: Config) -> None:
    with echo_server() as control:
        plan = Plan(echo, _traffic(), duration_s=0.4, connections=8, rate_per_s=6000, control=Control(control.config, control.pid, None))
        made = offer(plan)
    assert made.control is not None
    assert made.control.sent == pytest.approx(made.sent / 3, rel=0.02)
