"""Answers that are neither a value nor an ordinary error, of a scripted peer."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from cachelib import OutcomeUnknown, Unavailable
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(30)


class Peer:
    """Greets, and answers every later read with the same bytes.

    Args:
        answer: those bytes.
        ends: how many connections, of the first ones, it ends with its greeting.

    Attributes:
        port: where it listens.
        connections: how many there were.
        answered: how many reads after the greeting.
    """

    def __init__(self, answer: bytes = b"+OK\r\n", ends: int = 0) -> None:
        self._answer, self._ends = answer, ends
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = self.answered = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connected, self.connections), daemon=True).start()

    def _serve(self, connected: socket.socket, number: int) -> None:
        with connected, contextlib.suppress(OSError):
            connected.recv(4096)
            connected.sendall(b"+OK\r\n+PONG\r\n")
            while number > self._ends and connected.recv(4096):
                self.answered += 1
                connected.sendall(self._answer)


def test_reply_that_can_not_be_understood_leaves_the_outcome_of_a_write_unknown(server: Embedded, open_client: Any) -> None:
    with Peer(answer=b"HTTP/1.1 400 Bad Request\r\n") as peer:
        client = open_client(server, port=peer.port, deadline_s=0.3)
        for write in (
            lambda: client.incr("n"),
            lambda: client.execute_command("FROBNICATE"),
            lambda: client.pipeline().incr("n").execute(),
        ):
            with pytest.raises(OutcomeUnknown):
                write()
        with pytest.raises((redis.InvalidResponse, Unavailable)):
            client.get("n")


def test_connection_that_ends_with_its_greeting_is_made_again(server: Embedded, open_client: Any) -> None:
    with Peer(ends=3) as peer:
        assert open_client(server, port=peer.port).set("k", "v") is True
        assert peer.connections == 4


@pytest.mark.parametrize("refusal", [b"-LOADING not yet", b"-READONLY a replica", b"-NOAUTH who are you"])
def test_transaction_of_one_command_that_was_served_without_its_multi_is_not_sent_again(
    refusal: bytes, server: Embedded, open_client: Any
) -> None:
    """The MULTI was refused, and what came behind it was not."""
    with Peer(answer=refusal + b"\r\n:1\r\n-ERR EXEC without MULTI\r\n") as peer:
        with pytest.raises(redis.RedisError) as caught:
            open_client(server, port=peer.port, deadline_s=0.3).pipeline().incr("n").execute()
        assert not isinstance(caught.value, Unavailable)
        assert peer.answered == 1


def test_greeting_that_was_interrupted_is_not_taken_for_replies(server: Embedded, connect_to: Any, paused: Any, interrupted: Any) -> None:
    client = connect_to(server, pool_size=1)

    def interrupt_soon(interrupt: Callable[[], None]) -> None:
        time.sleep(0.1)
        interrupt()

    with paused(server):
        interrupted(client.ping, by=interrupt_soon)
    assert [client.echo(str(number)) for number in range(3)] == [b"0", b"1", b"2"]
    assert client.pool_stats().in_use == 0
