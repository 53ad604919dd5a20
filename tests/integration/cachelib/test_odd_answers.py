"""Answers that are neither a value nor an ordinary error, of real servers where one gives them, else of a scripted peer."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from cachelib import CacheError, Config, Event, OutcomeUnknown, Refused, Unavailable, connect, connect_async
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(30)

PASSWORD = "correct-horse-battery-staple"


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


def in_a_thread(config: Config, use: Callable[[Any], Any], **options: Any) -> Any:
    """Use a client of threads; return the reply or the error."""
    with connect(config, **options) as client:
        try:
            return use(client)
        except redis.RedisError as error:
            return error


def in_a_loop(config: Config, use: Callable[[Any], Any], **options: Any) -> Any:
    """Use a client of asyncio; return the reply or the error."""

    async def run() -> Any:
        client = connect_async(config, **options)
        try:
            return await use(client)
        except redis.RedisError as error:
            return error
        finally:
            await client.aclose()

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("ask", [in_a_thread, in_a_loop], ids=["threads", "asyncio"])


@pytest.fixture
def admin(own_server: Embedded) -> Iterator[Any]:
    """redis-py's own client of the test's own server."""
    with redis.Redis(port=own_server.config.port, decode_responses=True) as admin:
        yield admin


def config_of(server: Embedded, **changes: Any) -> Config:
    return Config(host="127.0.0.1", port=server.config.port, **changes)


# --- refusals ---


@BOTH
def test_full_server_is_named_as_the_reason(ask: Any, own_server: Embedded, admin: Any) -> None:
    admin.ping()
    admin.config_set("maxclients", 1)
    error = ask(config_of(own_server, deadline_s=0.3), lambda client: client.get("k"))
    assert type(error) is Unavailable
    assert "max number of clients" in str(error)


@BOTH
def test_missing_right_is_told_at_once_and_nothing_is_tried_again(ask: Any, own_server: Embedded, admin: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", f">{PASSWORD}", "~*", "+@all", "-incrby")
    config = config_of(own_server, username="bot", password=PASSWORD)
    assert type(ask(config, lambda client: client.incrby("n"))) is redis.exceptions.NoPermissionError
    assert admin.info("commandstats")["cmdstat_incrby"]["rejected_calls"] == 1


@BOTH
def test_command_that_was_refused_for_want_of_a_login_did_nothing(ask: Any, own_server: Embedded, admin: Any) -> None:
    """Its connection had lost the login, which RESET does."""
    admin.config_set("requirepass", PASSWORD)
    config = config_of(own_server, password=PASSWORD)

    def use(client: Any) -> Any:
        with client.client() as single:
            return single.execute_command("RESET") and single.execute_command("DECR", "n")

    async def use_async(client: Any) -> Any:
        async with client.client() as single:
            await single.execute_command("RESET")
            return await single.execute_command("DECR", "n")

    error = ask(config, use_async if ask is in_a_loop else use)
    assert isinstance(error, redis.AuthenticationError)


@BOTH
def test_password_that_is_a_word_of_the_servers_answer_is_not_given_away(ask: Any, own_server: Embedded, admin: Any) -> None:
    admin.config_set("requirepass", PASSWORD)
    error = ask(config_of(own_server, password="user"), lambda client: client.get("k"))
    assert type(error) is Refused
    assert "it does not accept this user name and password" in str(error)


@BOTH
def test_server_that_asks_for_a_password_says_so_where_there_is_none(ask: Any, own_server: Embedded, admin: Any) -> None:
    admin.config_set("requirepass", PASSWORD)
    error = ask(config_of(own_server), lambda client: client.get("k"))
    assert type(error) is Refused
    assert "it asks for a password, and none is set" in str(error)


@BOTH
@pytest.mark.parametrize("command", ["MULTI", "WATCH k", "SELECT 2", "MONITOR", "SUBSCRIBE c", "CLIENT REPLY OFF", "RESET", "multi"])
def test_command_that_changes_its_connection_is_refused_where_others_share_it(command: str, ask: Any, server: Embedded) -> None:
    error = ask(config_of(server), lambda client: client.execute_command(*command.split()))
    assert isinstance(error, redis.DataError)
    assert "client.client()" in str(error)


@BOTH
def test_pipeline_leaves_no_connection_changed(ask: Any, server: Embedded) -> None:
    error = ask(config_of(server), lambda client: client.pipeline(transaction=False).select(2).execute())
    assert isinstance(error, redis.DataError)


@BOTH
def test_single_connection_that_was_changed_is_nobody_elses_later(ask: Any, server: Embedded) -> None:
    def use(client: Any) -> Any:
        with client.client() as single:
            single.select(2)
        return client.client_info()["db"]

    async def use_async(client: Any) -> Any:
        async with client.client() as single:
            await single.select(2)
        return (await client.client_info())["db"]

    assert ask(config_of(server, pool_size=1), use_async if ask is in_a_loop else use) == 0


@BOTH
@pytest.mark.parametrize("password", [PASSWORD, "token-" * 40], ids=["short", "longer than what is repeated"])
def test_password_that_a_server_without_hello_repeats_is_not_shown(password: str, ask: Any, start_server: Any) -> None:
    server = start_server("--rename-command", "HELLO", "")
    error = ask(config_of(server, password=password), lambda client: client.get("k"))
    assert type(error) is Refused
    assert "***" in str(error)
    while error is not None:
        assert password[:6] not in repr(error)
        error = error.__cause__ or error.__context__


# --- replies that are none ---


@BOTH
def test_reply_that_can_not_be_understood_leaves_the_outcome_of_a_write_unknown(ask: Any) -> None:
    with Peer(answer=b"HTTP/1.1 400 Bad Request\r\n") as peer:
        config = Config(host="127.0.0.1", port=peer.port, deadline_s=0.3)
        assert type(ask(config, lambda client: client.incr("n"))) is OutcomeUnknown
        assert type(ask(config, lambda client: client.execute_command("FROBNICATE"))) is OutcomeUnknown
        assert type(ask(config, lambda client: client.pipeline().incr("n").execute())) is OutcomeUnknown
        assert isinstance(ask(config, lambda client: client.get("n")), (redis.InvalidResponse, Unavailable))


@BOTH
def test_connection_that_ends_with_its_greeting_is_made_again(ask: Any) -> None:
    with Peer(ends=3) as peer:
        assert ask(Config(host="127.0.0.1", port=peer.port), lambda client: client.set("k", "v")) is True
        assert peer.connections == 4


def test_greeting_that_was_interrupted_is_not_taken_for_replies(server: Embedded, connect_to: Any, paused: Any, interrupted: Any) -> None:
    client = connect_to(server, pool_size=1)

    def interrupt_soon(interrupt: Callable[[], None]) -> None:
        time.sleep(0.1)
        interrupt()

    with paused(server):
        interrupted(client.ping, by=interrupt_soon)
    assert [client.echo(str(number)) for number in range(3)] == [b"0", b"1", b"2"]
    assert client.pool_stats().in_use == 0


def test_cancelled_transaction_gives_its_connection_back(server: Embedded, paused: Any) -> None:
    """Cancelled while the server does not answer to the UNWATCH."""

    async def run() -> None:
        client = connect_async(config_of(server, pool_size=1))

        async def watch() -> None:
            async with client.pipeline() as pipe:
                await pipe.watch("k")
                server.pause()

        await client.ping()
        task = asyncio.create_task(watch())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.resume()
        assert client.pool_stats().in_use == 0
        assert await client.pipeline().incr("n").execute() == [1]
        await client.aclose()

    asyncio.run(run())


# --- what a batch says ---


@BOTH
@pytest.mark.parametrize("refusal", [b"-LOADING not yet", b"-READONLY a replica", b"-NOAUTH who are you"])
def test_transaction_of_one_command_that_was_served_without_its_multi_is_not_sent_again(refusal: bytes, ask: Any) -> None:
    """The MULTI was refused, and what came behind it was not."""
    with Peer(answer=refusal + b"\r\n:1\r\n-ERR EXEC without MULTI\r\n") as peer:
        error = ask(Config(host="127.0.0.1", port=peer.port, deadline_s=0.3), lambda client: client.pipeline().incr("n").execute())
    assert isinstance(error, redis.RedisError)
    assert not isinstance(error, Unavailable)
    assert peer.answered == 1


@BOTH
def test_batch_that_meets_a_loading_server_is_never_applied_twice(ask: Any, start_server: Any) -> None:
    slow = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    server = start_server("--appendonly", "no", "--save", "", "--enable-debug-command", "yes", *slow)
    with redis.Redis(port=server.config.port, retry=None, socket_timeout=30, decode_responses=True) as admin:
        admin.mset({f"k{number}": os.urandom(500) for number in range(400)})
        outcomes: list[Any] = []
        reloading = threading.Thread(target=lambda: admin.execute_command("DEBUG", "RELOAD"))

        def batch(client: Any) -> Any:
            return client.pipeline(transaction=False).incr("n").incr("n").execute()

        def count(client: Any) -> None:
            batch(client)
            reloading.start()
            while reloading.is_alive():
                try:
                    outcomes.append(batch(client))
                except CacheError as error:
                    outcomes.append(error)

        async def count_in_a_loop(client: Any) -> None:
            await batch(client)
            reloading.start()
            while reloading.is_alive():
                outcomes.extend(await asyncio.gather(batch(client), return_exceptions=True))

        assert ask(config_of(server), count_in_a_loop if ask is in_a_loop else count) is None
    unknown = sum(type(outcome) is OutcomeUnknown for outcome in outcomes)
    acknowledged = sum(isinstance(outcome, list) for outcome in outcomes)
    assert unknown + acknowledged == len(outcomes)
    acknowledged += 1  # before
    with redis.Redis(port=server.config.port) as admin:
        assert 2 * acknowledged <= int(admin.get("n")) <= 2 * (acknowledged + unknown)
    assert unknown > 0  # it was met


@BOTH
def test_arguments_of_a_batch_are_told_to_nobody(ask: Any, own_server: Embedded, admin: Any) -> None:
    """redis-py writes them into the error of the command that failed."""
    events: list[Event] = []
    admin.execute_command("REPLICAOF", "127.0.0.1", own_server.config.port)
    error = ask(
        config_of(own_server, deadline_s=0.1),
        lambda client: client.pipeline().set("k", PASSWORD).set("k2", PASSWORD).execute(),
        observers=[events.append],
    )
    assert isinstance(error, CacheError)
    assert events
    assert PASSWORD not in f"{events} {error}"


def test_wait_of_asyncio_is_refused_where_it_could_say_nothing_about_the_writes(server: Embedded) -> None:
    """They travel over the shared line, and it would over another connection, on which there was no write to wait for."""
    for name in ("wait", "waitaof"):
        arguments = (0, 1) if name == "wait" else (0, 0, 1)
        error = in_a_loop(config_of(server), lambda client: getattr(client, name)(*arguments))  # noqa: B023
        assert isinstance(error, redis.DataError)
        assert "one pipeline" in str(error)

    async def both(client: Any) -> Any:
        async with client.client() as single:
            await single.set("k", "v")
            return await single.wait(0, 1), await client.pipeline(transaction=False).set("k", "v").wait(0, 1).execute()

    assert in_a_loop(config_of(server), both) == (0, [True, 0])
