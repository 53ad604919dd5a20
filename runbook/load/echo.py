"""Sends back what it reads: the floor under every latency, the same bytes over the same loopback without a database.

As a module (`python -m runbook.load.echo`) it is that process. A load of `ECHO` takes it for a server and expects the bytes of each command
back. It runs Python, so a Redis in C may well answer sooner: the floor is that of this host, not a bound for every program on it.
"""

import contextlib
import gc
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator

from cachelib import Config
from runbook.load.sockets import receive, send
from runbook.targets.port import free_port
from runbook.tether import tethered

_BACKLOG = 511  # as many as a Redis has by default
# Whoever dials wants to hear this first.
_GREETING = b"+PONG\r\n"


@contextlib.contextmanager
def echo_server(core: int | None = None) -> Iterator[Config]:
    """Run an echo server for the length of the block, and say how to reach it.

    Args:
        core: to pin it to; None lets it run anywhere.

    Raises:
        TargetError: there is no free port.
    """
    with contextlib.ExitStack() as stack:
        # We listen before it runs, so who comes early waits in the backlog instead of being refused.
        with socket.create_server(("127.0.0.1", free_port()), backlog=_BACKLOG) as listener:
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                tethered([sys.executable, "-m", "runbook.load.echo", str(listener.fileno())]),
                stdin=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C reaches us alone
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        yield Config(host="127.0.0.1", port=port, connect_timeout_s=10)  # it has a Python to start


def serve(listener: socket.socket) -> None:
    """Answer the first message of each connection with a PONG, and send all others back; never returns."""
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    fresh: set[int] = set()
    outboxes: dict[int, memoryview] = {}
    while True:
        for number, _ in epoll.poll():
            if number not in connections:
                with contextlib.suppress(OSError):  # it has gone again
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    epoll.register(connection, select.EPOLLIN)
                    connections[connection.fileno()] = connection
                    fresh.add(connection.fileno())
                continue
            connection = connections[number]
            data: bytes | memoryview | None
            if outboxes and number in outboxes:
                data = outboxes.pop(number)
                epoll.modify(number, select.EPOLLIN)
            else:
                data = receive(connection)
                if data is None:
                    continue
                if fresh and number in fresh:
                    fresh.discard(number)
                    data = data and _GREETING
            count = send(connection, data) if data else -1
            if count < 0:
                connection.close()
                del connections[number]
            elif count < len(data):  # nothing more is read until this has left
                outboxes[number] = memoryview(data)[count:]
                epoll.modify(number, select.EPOLLOUT)


def main() -> None:
    """Be the echo server on the listening socket whose number is given."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()
    gc.disable()
    serve(listener)


if __name__ == "__main__":
    main()
