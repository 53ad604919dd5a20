"""Servers that are slow by themselves, to be found out; as a module it is the process that makes one slow.

python slow_servers.py sleep|compute PORT        keep a Redis from answering for 3 ms, 20 times a second
python slow_servers.py proxy PORT PERCENT        delay that many replies by 1.5 ms; prints the port on which it listens
python slow_servers.py ok                        answer OK to everything; prints the port on which it listens
"""

import contextlib
import ctypes
import dataclasses
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

DELAY_S = 0.003
REPLY_DELAY_S = 0.0015


@contextlib.contextmanager
def disturbed(server: Any, how: str, every_s: float) -> Iterator[Any]:
    """Keep a Redis from answering at times: `sleep` or `compute`."""
    with _running(how, str(server.config.port), str(every_s)) as process:
        assert process.stdout.readline() == "busy\n"
        yield server


@contextlib.contextmanager
def delayed(server: Any, percent: float) -> Iterator[Any]:
    """Reach a Redis through a proxy on its core, which delays so many replies by 1.5 ms."""
    with _running("proxy", str(server.config.port), str(percent)) as process:
        port = int(process.stdout.readline())
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})  # where the server is pinned
        yield _Seen(dataclasses.replace(server.config, port=port), server.pid)


@contextlib.contextmanager
def slow_fsync(server: Any, milliseconds: float) -> Iterator[Any]:
    """Let each fsync of a Redis take longer, by strace(1); it needs the right to trace."""
    inject = f"inject=fsync,fdatasync:delay_exit={round(milliseconds * 1000)}"
    command = ["strace", "-f", "-qq", "-p", str(server.pid), "-e", "trace=fsync,fdatasync", "-e", inject, "-o", "/dev/null"]
    with subprocess.Popen(command) as process:
        try:
            time.sleep(1.0)  # until it has attached to each thread
            assert process.poll() is None
            yield server
        finally:
            process.terminate()


@contextlib.contextmanager
def ok_to_everything() -> Iterator[int]:
    """Run a server that answers OK to everything, and give its port."""
    with _running("ok") as process:
        yield int(process.stdout.readline())


@dataclasses.dataclass
class _Seen:
    """A target whose process this host can see."""

    config: Any
    pid: int
    name: str = "embedded"


@contextlib.contextmanager
def _running(*arguments: str) -> Iterator[Any]:
    with subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)


def _disturb(how: str, port: int, every_s: float) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    command = _command("DEBUG", "SLEEP", str(DELAY_S))
    if how == "compute":
        command = _computing(connection)
    print("busy", flush=True)
    while True:
        connection.sendall(command)
        connection.recv(100)
        time.sleep(every_s)


def _computing(connection: socket.socket) -> bytes:
    """Make a script that takes 3 ms of CPU time: a loop as long as the fastest of some tells."""
    turns, fastest_s = 100_000, 1.0
    for _ in range(30):
        began_s = time.perf_counter()
        connection.sendall(_looping(turns))
        connection.recv(100)
        fastest_s = min(fastest_s, time.perf_counter() - began_s)
    return _looping(round(turns * DELAY_S / fastest_s))


def _looping(turns: int) -> bytes:
    return _command("EVAL", f"local x=0 for i=1,{turns} do x=x+i end return 1", "0")


def _proxy(port: int, percent: float) -> None:
    """Hand everything on, a few replies later; one thread, since more would wait for each other."""
    ctypes.CDLL(None).prctl(29, 1)  # PR_SET_TIMERSLACK: wake on time
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    epoll, peers = select.epoll(), dict[int, tuple[socket.socket, socket.socket, bool]]()
    epoll.register(listener, select.EPOLLIN)
    late: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        wait_s = max(0.0, late[0][0] - time.monotonic()) if late else None
        select.select([epoll], [], [], wait_s)
        while late and late[0][0] <= time.monotonic():
            _, to, data = late.popleft()
            to.sendall(data)
        for number, _ in epoll.poll(0):
            if number == listener.fileno():
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", port))
                for one, other, replies in ((client, server, False), (server, client, True)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peers[one.fileno()] = one, other, replies
                    epoll.register(one, select.EPOLLIN)
                continue
            if number not in peers:
                continue
            one, other, replies = peers[number]
            data = one.recv(65536)
            if not data:
                for each in (one, other):
                    epoll.unregister(each)
                    del peers[each.fileno()]
                    each.close()
            elif replies and random.random() < percent / 100:
                late.append((time.monotonic() + REPLY_DELAY_S, other, data))
            else:
                other.sendall(data)


def _ok() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    epoll, connections = select.epoll(), dict[int, socket.socket]()
    epoll.register(listener, select.EPOLLIN)
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                connection = listener.accept()[0]
                connections[connection.fileno()] = connection
                epoll.register(connection, select.EPOLLIN)
            elif data := connections[number].recv(65536):
                connections[number].sendall(b"+OK\r\n" * max(1, data.count(b"*")))
            else:
                epoll.unregister(number)
                connections.pop(number).close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["proxy", port, percent]:
            _proxy(int(port), float(percent))
        case ["ok"]:
            _ok()
        case [how, port, every_s]:
            _disturb(how, int(port), float(every_s))
