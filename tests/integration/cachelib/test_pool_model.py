"""The pool against a model of it, by a Hypothesis state machine on a real server."""

import dataclasses
import threading
import time
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cachelib import Config, PoolExhausted, connect, deadline
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(100)


class Waiter:
    """A thread that waits for a connection and keeps it, or sends one command.

    Attributes:
        connection: that it was handed.
        reply: that it got.
        error: that it got instead.
    """

    def __init__(self, client: Any, key: str | None, word: str) -> None:
        self.connection: Any = None
        self.reply: Any = None
        self.error: Exception | None = None
        self.word = word

        def wait() -> None:
            try:
                if key is None:
                    self.connection = client.connection_pool.get_connection()
                else:
                    self.reply = client.echo(word)
            except Exception as error:
                self.error = error

        self.thread = threading.Thread(target=wait)
        self.thread.start()


class PoolMachine(RuleBasedStateMachine):
    """`held` are the connections that are ours, `line` those who wait, in order."""

    config: Config
    admin: Any

    @initialize(size=st.integers(1, 3))
    def begin(self, size: int) -> None:
        self.size = size
        # A rule ages connections by hand.
        self.client = connect(dataclasses.replace(self.config, pool_size=size, deadline_s=20.0))
        self.pool = self.client.connection_pool
        self.held: list[Any] = []
        self.line: list[Waiter] = []
        self.words = 0
        self.closed = 0  # connections that `close` ended, and that are neither lost nor retired

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        while self.held:
            self.release(0)
        self.settle()
        assert self.client.pool_stats().waiting == self.client.pool_stats().in_use == 0
        self.client.close()

    # --- what callers do ---

    @precondition(lambda self: len(self.held) < self.size)
    @rule()
    def acquire(self) -> None:
        connection = self.pool.get_connection()
        self.takes(connection)

    @precondition(lambda self: len(self.held) == self.size)
    @rule(timeout_s=st.sampled_from([0.001, 0.01]))
    def acquire_in_vain(self, timeout_s: float) -> None:
        with deadline(timeout_s), pytest.raises(PoolExhausted):
            self.pool.get_connection()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 2))
    def release(self, number: int) -> None:
        connection = self.held.pop(number % len(self.held))
        self.pool.release(connection)
        self.pool.release(connection) if not self.line else None  # twice is as good as once
        self.settle()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 2))
    def use_what_is_held(self, number: int) -> None:
        connection, word = self.held[number % len(self.held)], self.word()
        if not connection.is_connected or connection.is_stale():
            return
        connection.send_command("ECHO", word)
        assert connection.read_response() == word.encode()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 2))
    def leave_a_reply_unread(self, number: int) -> None:
        """As one whose caller was interrupted: the next must not read it."""
        connection = self.held[number % len(self.held)]
        if not connection.is_connected or connection.is_stale():
            return
        connection.send_command("ECHO", "stale")
        until_s = time.monotonic() + 10.0
        while not connection.is_stale():
            assert time.monotonic() < until_s
        self.release(number)

    @precondition(lambda self: len(self.held) < self.size)
    @rule(size=st.sampled_from([1, 100, 70_000]))
    def call(self, size: int) -> None:
        word = self.word() * size
        assert self.client.echo(word) == word.encode()

    @precondition(lambda self: len(self.held) == self.size and len(self.line) < 5)
    @rule(plain=st.booleans())
    def queue_up(self, plain: bool) -> None:
        before = self.client.pool_stats().waiting
        self.line.append(Waiter(self.client, "k" if plain else None, self.word()))
        until_s = time.monotonic() + 10.0
        while self.client.pool_stats().waiting == before:
            assert time.monotonic() < until_s
            time.sleep(0.0005)

    # --- what becomes of connections ---

    @rule()
    def server_ends_all_connections(self) -> None:
        self.admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        until_s = time.monotonic() + 10.0
        while len(self.admin.client_list()) > 1:
            assert time.monotonic() < until_s

    @rule()
    def connections_reach_their_age(self) -> None:
        for connection in [*self.pool._available_connections, *self.held]:
            connection._retire_s = 0.0

    @rule()
    def close(self) -> None:
        before = self.client.pool_stats().idle
        self.client.connection_pool.disconnect(inuse_connections=False)
        self.closed += before

    # --- the model ---

    def word(self) -> str:
        self.words += 1
        return f"word-{self.words};"

    def takes(self, connection: Any) -> None:
        assert connection not in self.held
        assert connection.is_connected
        assert not connection.is_stale()
        assert not connection.is_old()
        self.held.append(connection)

    def settle(self) -> None:
        """Await what follows from a connection that came free: it goes down the line, to the first who keeps it."""
        while self.line and len(self.held) < self.size:
            waiter = self.line.pop(0)
            waiter.thread.join(15.0)
            assert not waiter.thread.is_alive()
            assert waiter.error is None
            if waiter.connection is None:
                assert waiter.reply == waiter.word.encode()
            else:
                self.takes(waiter.connection)
        if len(self.held) < self.size:
            # The connection that served the last of the line is given back after its reply.
            until_s = time.monotonic() + 10.0
            while self.client.pool_stats().in_use > len(self.held):
                assert time.monotonic() < until_s

    @invariant()
    def those_in_line_still_wait(self) -> None:
        if hasattr(self, "client"):
            assert [waiter for waiter in self.line if not waiter.thread.is_alive()] == []

    @invariant()
    def stats_agree(self) -> None:
        if not hasattr(self, "client"):
            return
        stats = self.client.pool_stats()
        assert (stats.size, stats.in_use, stats.waiting, stats.unknown) == (self.size, len(self.held), len(self.line), 0)
        assert stats.in_use + stats.idle <= self.size
        counted = sum(connection.is_connected for connection in self.held) + stats.idle
        assert stats.made == counted + stats.lost + stats.retired + self.closed
        assert f" {stats.in_use}/{self.size} in use, {stats.waiting} waiting>" in repr(self.pool)
        assert len(self.admin.client_list()) - 1 <= self.size


def test_pool_behaves_as_its_model(server: Embedded) -> None:
    with redis.Redis(port=server.config.port) as admin:
        machine = type("Machine", (PoolMachine,), {"config": server.config, "admin": admin})
        steady = settings(max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
        machine.TestCase.settings = steady
        machine.TestCase().runTest()
