"""Opens many non-blocking connections at once, logged in and proven by a PONG."""

import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Iterator

from cachelib import Config
from runbook.load.replies import reply_end
from runbook.load.traffic import encode

# Connections are opened so many at a time: a server accepts no more than its backlog before it looks (511 by default).
_AT_ONCE = 100
# Descriptors that a process needs besides its connections.
_SPARE_DESCRIPTORS = 64
LARGEST_RECEIVE = 1 << 16
# How long after the load replies are waited for; a call that has none by then has failed.
DRAIN_S = 5.0
NO_REPLY, LOST = f"no reply within {DRAIN_S:g} s of the end", "connection lost"
UNASKED = "a reply that nobody had asked for"


class LoadError(Exception):
    """The load could not be offered; the message says what to do."""


def dial(config: Config, count: int) -> list[socket.socket]:
    """Open connections and log in on each.

    Args:
        config: where to, with which user and database, and how long one attempt may take.
        count: how many.

    Returns:
        As many sockets, non-blocking.

    Raises:
        LoadError: this process may not have so many, the server can't be reached, refuses them, or is none.
    """
    _raise_limit(count)
    number = 0
    opened: list[socket.socket] = []
    greeting, replies = _greeting(config)
    try:
        context = _tls_context(config)
        while len(opened) < count:
            first = len(opened)
            batch = range(first, min(first + _AT_ONCE, count))
            for number in batch:  # noqa: B007 an error names it
                opened.append(_open(config, context))
            for number in batch:
                opened[number].sendall(greeting)
            for number in batch:
                _check_greeting(config, opened[number], replies)
                opened[number].setblocking(False)
    except BaseException as error:
        for connection in opened:
            connection.close()
        if isinstance(error, OSError):
            which = f"connection {number + 1:,} of {count:,} to {config.endpoint}"
            raise LoadError(f"{which} failed ({error.strerror or error}): {_remedy(error, config)}") from error
        raise
    return opened


@contextlib.contextmanager
def dialled(config: Config, count: int) -> Iterator[list[socket.socket]]:
    """Open connections as `dial` does, and close them with the block."""
    opened = dial(config, count)
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


def receive(connection: socket.socket) -> bytes | None:
    """Read what has arrived; None if nothing has, and `b""` once the connection has ended."""
    try:
        data = connection.recv(LARGEST_RECEIVE)
        if isinstance(connection, ssl.SSLSocket):
            while connection.pending():  # what the kernel no longer knows of wakes no epoll
                data += connection.recv(LARGEST_RECEIVE)
        return data
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except OSError:  # reset, or the TLS line was cut
        return b""


def send(connection: socket.socket, data: bytes | memoryview) -> int:
    """Send what the connection takes at once, and return how many bytes that were; -1 once it has ended."""
    try:
        return connection.send(data)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return 0
    except OSError:
        return -1


def _open(config: Config, context: ssl.SSLContext | None) -> socket.socket:
    connection = socket.create_connection((config.host, config.port), timeout=config.connect_timeout_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(connection, server_hostname=config.host) if context else connection
    except BaseException:
        connection.close()
        raise


def _greeting(config: Config) -> tuple[bytes, list[str]]:
    """Return what is sent first, and the name of the command that each reply answers."""
    commands: list[tuple[str, ...]] = [("PING",)]
    if config.db:
        commands.insert(0, ("SELECT", str(config.db)))
    if config.password:
        user = (config.username,) if config.username else ()
        commands.insert(0, ("AUTH", *user, config.password.reveal()))
    return b"".join(encode(*command) for command in commands), [command[0] for command in commands]


def _check_greeting(config: Config, connection: socket.socket, commands: list[str]) -> None:
    held, at = b"", 0
    until_s = time.monotonic() + config.connect_timeout_s
    for command in commands:
        while (end := _end_of(held, at, config)) < 0:
            connection.settimeout(max(0.001, until_s - time.monotonic()))
            received = connection.recv(4096)
            if not received:
                raise LoadError(f"{config.endpoint} closed a new connection before {command} was answered: is it a Redis without TLS?")
            held += received
        reply = held[at:end].rstrip().decode(errors="replace")
        at = end
        if not reply.startswith("+"):
            raise LoadError(f"{config.endpoint} answers {command} with an error: {_masked(reply.lstrip('-'), config)}; {_advice(reply)}")


def _end_of(held: bytes, at: int, config: Config) -> int:
    try:
        return reply_end(held, at)
    except ValueError as error:
        raise LoadError(f"{config.endpoint} greets with an {_masked(str(error), config)}: is it a Redis without TLS?") from None


def _masked(text: str, config: Config) -> str:
    """Keep the password out of what a server says: one that knows no AUTH repeats what it was sent."""
    return text.replace(config.password.reveal(), repr(config.password)) if config.password else text


def _remedy(error: OSError, config: Config) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "check REDIS_TLS_CA_FILE"
    if isinstance(error, ssl.SSLError) or (config.tls and isinstance(error, TimeoutError)):
        return "does the server speak TLS on this port, and are REDIS_TLS_CA_FILE, REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE right?"
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return "are REDIS_TLS_CA_FILE, REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE readable?"
    if isinstance(error, ConnectionResetError | BrokenPipeError) and not config.tls:
        return "is it a Redis without TLS?"
    return "is the server up, and are REDIS_HOST and REDIS_PORT right?"


def _advice(reply: str) -> str:
    if "max number of clients" in reply:
        return "raise the server's maxclients, or ask for fewer connections"
    if reply.startswith(("-NOAUTH", "-WRONGPASS", "-ERR Client sent AUTH", "-ERR AUTH")):
        return "correct REDIS_USERNAME and REDIS_PASSWORD"
    if reply.startswith("-LOADING"):
        return "wait until it has loaded its data"
    return "correct what it names"


def _tls_context(config: Config) -> ssl.SSLContext | None:
    if not config.tls:
        return None
    context = ssl.create_default_context(cafile=str(config.tls_ca_file) if config.tls_ca_file else None)
    if config.tls_cert_file:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    return context


def _raise_limit(count: int) -> None:
    """Allow this process as many descriptors as it needs."""
    needed = count + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise LoadError(f"{count:,} connections take {needed:,} file descriptors, and this process may have {hard:,}: raise `ulimit -n`")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
