"""Servers without a database: what a load meets that goes the same way as to a Redis, so that the host's share of a latency shows.

An echo sends back what it reads, for loads over bare connections; a stub answers the commands of a client library. As a module
(`python -m runbook.load.echo`) it is such a process. It runs Python, so a Redis in C may well answer sooner.
"""

import contextlib
import gc
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cachelib import Config
from runbook.load.replies import reply_end
from runbook.load.sockets import receive, send
from runbook.targets.port import free_port
from runbook.tether import tethered

_BACKLOG = 511  # as many as a Redis has by default
# The first reply that whoever dials wants.
_GREETING = b"+PONG\r\n"
_HELLO = b"%3\r\n$6\r\nserver\r\n$4\r\nstub\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n"


class ControlServer(NamedTuple):
    """A running server without a database.

    Attributes:
        config: how to reach it.
        pid: of its process.
    """

    config: Config
    pid: int


@contextlib.contextmanager
def echo_server(core: int | None = None) -> Iterator[ControlServer]:
    """Run a server that sends back what it reads, for the length of the block.

    Args:
        core: to pin it to; None lets it run anywhere.

    Raises:
        TargetError: there is no free port.
    """
    with _running(core) as server:
        yield server


@contextlib.contextmanager
def stub_server(core: int | None = None, *, size_bytes: int) -> Iterator[ControlServer]:
    """Run a server that answers PING, GET and SET as a Redis does, without keeping anything, for the length of the block.

    Args:
        core: to pin it to; None lets it run anywhere.
        size_bytes: length of the value that each GET is answered with.

    Raises:
        TargetError: there is no free port.
    """
    with _running(core, str(size_bytes)) as server:
        yield server


@contextlib.contextmanager
def _running(core: int | None, *arguments: str) -> Iterator[ControlServer]:
    with contextlib.ExitStack() as stack:
        # We listen before it runs, so who comes early waits in the backlog instead of being refused.
        with socket.create_server(("127.0.0.1", free_port()), backlog=_BACKLOG) as listener:
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                tethered([sys.executable, "-m", "runbook.load.echo", str(listener.fileno()), *arguments]),
                stdin=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C reaches us alone
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        yield ControlServer(Config(host="127.0.0.1", port=port, connect_timeout_s=10), process.pid)  # it has a Python to start


class _Echo:
    """Answers the first message of a connection with a PONG, and sends all others back."""

    def __init__(self) -> None:
        self._greeted = False

    def answer(self, data: bytes) -> bytes:
        """Return what is sent for what was read."""
        if self._greeted:
            return data
        self._greeted = True
        return _GREETING


class _Stub:
    """Answers the commands of one connection.

    Args:
        value: the reply to GET.
    """

    def __init__(self, value: bytes) -> None:
        self._held = b""
        self._replies = {b"PING": _GREETING, b"GET": value, b"HELLO": _HELLO}

    def answer(self, data: bytes) -> bytes:
        """Return the replies to the commands that are complete; any but those three is answered with OK."""
        held, at, replies = self._held + data, 0, []
        while at < len(held) and (end := reply_end(held, at)) > 0:  # a command has the form of a reply
            replies.append(self._replies.get(held[at:end].split(b"\r\n", 3)[2].upper(), b"+OK\r\n"))
            at = end
        self._held = held[at:]
        return b"".join(replies)


def serve(listener: socket.socket, answerer: Callable[[], _Echo | _Stub]) -> None:
    """Answer connections until the process ends; never returns.

    Args:
        listener: listening.
        answerer: makes what answers one connection.
    """
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, tuple[socket.socket, _Echo | _Stub]] = {}
    outboxes: dict[int, memoryview] = {}
    while True:
        for number, _ in epoll.poll():
            if number not in connections:
                with contextlib.suppress(OSError):  # it has gone again
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    epoll.register(connection, select.EPOLLIN)
                    connections[connection.fileno()] = connection, answerer()
                continue
            connection, answering = connections[number]
            data: bytes | memoryview | None
            if outboxes and number in outboxes:
                data = outboxes.pop(number)
                epoll.modify(number, select.EPOLLIN)
            else:
                read = receive(connection)
                data = answering.answer(read) if read else read
                if data is None or (read and not data):  # nothing has arrived, or no whole command
                    continue
            count = send(connection, data) if data else -1
            if count < 0:
                connection.close()
                del connections[number]
            elif count < len(data):  # nothing more is read until this has left
                outboxes[number] = memoryview(data)[count:]
                epoll.modify(number, select.EPOLLOUT)


def main() -> None:
    """Be such a server on the listening socket whose number is given: a stub if the length of its values is given, too."""
    listener, arguments = socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]
    gc.freeze()
    gc.disable()
    if arguments:
        value = b"$%d\r\n%s\r\n" % (int(arguments[0]), b"x" * int(arguments[0]))
        serve(listener, lambda: _Stub(value))
    serve(listener, _Echo)


if __name__ == "__main__":
    main()
