"""The socket under a connection, where another thread closes it."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cachelib.connection import _BoundedSocket


class ClosedMeanwhile:
    """A socket that another thread closes while it is used.

    Attributes:
        during: the number that the system knows it by, after the close and before the use ends.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        self.bounded = _BoundedSocket(self, 0.0)  # type: ignore[arg-type]
        self.bounded.greeting_until_s = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)

    def recv_into(self, buffer: bytearray) -> int:
        self.bounded.close()
        self.during = self._connected.fileno()
        return self._connected.recv_into(buffer)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets, each the other's peer."""
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_socket_keeps_its_number_until_its_use_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    """Or the next connection gets the number, and who waits for a reply waits for that one's."""
    ours, peer = pair
    peer.sendall(b"+OK\r\n")
    number, watched = ours.fileno(), ClosedMeanwhile(ours)
    assert watched.bounded.recv_into(bytearray(16)) == 5
    assert watched.during == number
    assert ours.fileno() == -1


def test_closed_socket_is_not_used(pair: tuple[socket.socket, socket.socket]) -> None:
    bounded = _BoundedSocket(pair[0], 0.0)
    bounded.greeting_until_s = None
    bounded.close()
    assert pair[0].fileno() == -1
    with pytest.raises(redis.ConnectionError, match="another thread closed"):
        bounded.recv_into(bytearray(16))
