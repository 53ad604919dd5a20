"""A write that carries the commands of several callers, lost, late or interrupted: what each of them is told."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cachelib import OutcomeUnknown, PoolExhausted, Unavailable, deadline, idempotent, pool
from cachelib.connection import _BoundedSocket
from runbook.drills.faults import Proxy, losing_replies, withholding_replies
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.integration.cachelib.in_line import Line, kinds
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)


# --- a lost connection ---


@pytest.mark.parametrize(
    ("how", "rounds"),
    [
        ("CLIENT KILL", 15),
        ("kill of the server", 2),
        pytest.param("CLIENT KILL", 200, marks=pytest.mark.nightly),
        pytest.param("kill of the server", 20, marks=pytest.mark.nightly),
    ],
)
def test_increments_of_a_lost_write_are_never_applied_twice(
    how: str, rounds: int, own_server: Embedded, admin: Any, connect_to: Any, eventually: Any
) -> None:
    client = connect_to(own_server, pool_size=2, deadline_s=20.0, connected=True)
    acknowledged, unknown = [0] * 32, [0] * 32
    enough = threading.Event()

    def write(number: int) -> None:
        while not enough.is_set():
            try:
                client.incr("n")
                acknowledged[number] += 1
            except OutcomeUnknown:
                unknown[number] += 1

    tasks = [Task(lambda number=number: write(number)) for number in range(32)]
    eventually(lambda: all(acknowledged))
    for _ in range(rounds):
        before = sum(acknowledged)
        eventually(lambda before=before: sum(acknowledged) > before + 100)
        if how == "CLIENT KILL":
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        else:
            own_server.stop()
            own_server.start()
    enough.set()
    assert results(tasks) == [None] * 32
    assert sum(acknowledged) <= int(client.get("n")) <= sum(acknowledged) + sum(unknown)
    assert client.pool_stats().unknown == sum(unknown)
    assert client.pool_stats().in_use == client.pool_stats().waiting == 0


def test_loss_of_a_write_settles_each_by_its_own_rule(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    """One write holds reads, repeatable and other writes; its connection is killed after the first of its replies."""
    client = connect_to(server, connected=True, pool_size=1, deadline_s=10.0)
    direct.set("k", "v")
    calls: list[Callable[[], object]] = [
        lambda: client.get("k"),
        lambda: client.incr("n"),
        lambda: client.set("other", "v"),
        lambda: client.rpush("list", "v"),
        lambda: client.get("k"),
    ]
    line = Line(client, calls)
    line.held.send_command("CLIENT", "ID")
    ours = line.held.read_response()
    # The server reads the whole, and stops at the first command that writes.
    direct.client_pause(30_000, all=False)
    line.release()
    eventually(lambda: int(direct.info("clients")["blocked_clients"]))
    direct.execute_command("CLIENT", "KILL", "ID", ours)
    direct.client_unpause()
    outcomes = line.outcomes()
    assert [outcomes[0], outcomes[2], outcomes[4]] == [b"v", True, b"v"]
    assert kinds(outcomes[1::2]) == {OutcomeUnknown}
    assert direct.exists("n") + direct.exists("list") == 0


def test_of_those_who_travel_in_one_write_only_the_declared_are_sent_again(
    server: Embedded, proxy: Proxy, direct: Any, connect_to: Any
) -> None:
    client = connect_to(server, port=proxy.port, pool_size=1, connected=True)

    def write(number: int) -> object:
        with idempotent() if number % 2 else contextlib.nullcontext():
            return client.incr(f"n{number}")

    line = Line(client, [lambda number=number: write(number) for number in range(6)])
    with losing_replies(proxy, b"INCR"):
        outcomes = line.go()
    assert kinds(outcomes[::2]) == {OutcomeUnknown}
    assert outcomes[1::2] == [2, 2, 2]
    assert [direct.get(f"n{number}") for number in range(6)] == ["1", "2", "1", "2", "1", "2"]


def test_those_taken_along_to_a_paused_server_end_at_their_deadline(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, connected=True, pool_size=1, deadline_s=0.5)
    line = Line(client, [lambda number=number: client.get("k") if number % 2 else client.incr("n") for number in range(20)])
    with paused(server):
        end = end_of(line.go)
    outcomes = end.outcome
    assert end.is_by(0.5)
    assert kinds(outcomes[0::2]) <= {OutcomeUnknown, Unavailable, PoolExhausted}
    assert kinds(outcomes[1::2]) <= {Unavailable, PoolExhausted}
    with deadline(5.0):
        assert 0 <= int(client.get("n") or 0) <= sum(type(outcome) is OutcomeUnknown for outcome in outcomes)


def test_lost_reply_of_another_holds_nobody_up_whose_own_has_come(server: Embedded, proxy: Proxy, connect_to: Any) -> None:
    client = connect_to(server, connected=True, port=proxy.port, pool_size=1, deadline_s=1.0)
    line = Line(client, [client.ping, lambda: client.incr("n"), client.ping])
    with withholding_replies(proxy, b"incr"):
        line.release()
        assert line.tasks[0].result() is True
        assert line.tasks[1].running
        assert type(line.tasks[1].result()) is OutcomeUnknown
    line.outcomes()


def test_interrupted_leader_takes_nobody_down_with_it(server: Embedded, connect_to: Any, eventually: Any, interrupted: Any) -> None:
    """Ctrl-C in the main thread, while it awaits the replies of five others."""

    client = connect_to(server, connected=True, pool_size=1, deadline_s=10.0)
    line = Line(client, [])

    def follow_and_interrupt(interrupt: Callable[[], None]) -> None:
        eventually(lambda: client.pool_stats().waiting == 1)
        for number in range(6):
            line.join((lambda: client.get("k")) if number % 2 else (lambda: client.incr("n")))
        server.pause()
        line.release()
        eventually(lambda: client.pool_stats().waiting == 0)  # all aboard
        time.sleep(0.1)  # it is sent
        interrupt()
        time.sleep(0.1)
        server.resume()

    interrupted(lambda: client.incr("leader"), by=follow_and_interrupt)
    end = end_of(line.outcomes)
    assert end.took_s < 5.0  # not their deadline
    assert kinds(end.outcome[0::2]) == {OutcomeUnknown}
    assert end.outcome[1::2] == [None] * 3
    assert (client.pool_stats().in_use, client.pool_stats().waiting) == (0, 0)
    assert int(client.get("n") or 0) <= 3


def test_caller_interrupted_while_another_carries_its_command_spoils_nothing(
    server: Embedded, connect_to: Any, eventually: Any, interrupted: Any
) -> None:
    client = connect_to(server, connected=True, pool_size=1, deadline_s=10.0)
    line = Line(client, [lambda: client.incr("n")])

    def interrupt_later(interrupt: Callable[[], None]) -> None:
        eventually(lambda: client.pool_stats().waiting == 2)
        server.pause()
        line.release()
        eventually(lambda: client.pool_stats().waiting == 0)
        time.sleep(0.1)  # it is sent
        interrupt()
        time.sleep(0.1)
        server.resume()

    interrupted(lambda: client.incr("n"), by=interrupt_later)
    assert line.outcomes() == [1]
    assert client.incr("n") == 3
    stats = client.pool_stats()
    assert (stats.in_use, stats.idle, stats.made, stats.lost, stats.unknown) == (0, 1, 1, 0, 0)


# --- moments that are hard to meet ---


def test_leader_interrupted_as_its_write_returns_has_sent_it_for_all(
    server: Embedded, connect_to: Any, direct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system has taken the bytes, and a signal's exception comes before anybody could note that."""
    client = connect_to(server, connected=True, pool_size=1)
    line = Line(client, [lambda: client.incr("n")] * 4)
    use, interrupted = _BoundedSocket._use, []

    def interrupt(bounded: _BoundedSocket, how: int, act: Any, data: Any, until_s: float | None) -> Any:
        done = use(bounded, how, act, data, until_s)
        if not interrupted and bytes(data).count(b"INCRBY") == 4:
            interrupted.append(True)
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(_BoundedSocket, "_use", interrupt)
    assert kinds(line.go()) == {KeyboardInterrupt, OutcomeUnknown}
    assert direct.get("n") == "4"
    assert client.incr("n") == 5


def test_caller_interrupted_as_it_is_handed_the_connection_hands_it_on(
    server: Embedded, connect_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal's exception may come when the wait is over, and before anything could be done with its result."""

    class Interrupted:
        def __init__(self, gate: threading.Lock) -> None:
            self._gate, self.release = gate, gate.release

        def acquire(self, timeout: float) -> bool:
            self._gate.acquire(timeout=timeout)
            raise KeyboardInterrupt

    class Turn(pool._Turn):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.gate = Interrupted(self.gate)

    client = connect_to(server, connected=True, pool_size=1)
    monkeypatch.setattr(pool, "_Turn", Turn)
    line = Line(client, [client.ping])
    monkeypatch.undo()
    assert kinds(line.go()) == {KeyboardInterrupt}
    assert client.ping()
    assert (client.pool_stats().in_use, client.pool_stats().lost) == (0, 0)


def one_after_another(client: Any, pauses_s: Sequence[float]) -> list[Task]:
    """Let callers increment, each in its thread and so long after the one before."""
    tasks = []
    for pause_s in pauses_s:
        time.sleep(pause_s)
        tasks.append(Task(lambda: client.incr("n")))
    return tasks


def test_heir_whose_wait_has_just_ended_is_not_let_go_twice(
    server: Embedded, connect_to: Any, paused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection over all the same, and leaves its own place in the line for the next one to read."""
    client = connect_to(server, connected=True, pool_size=1, deadline_s=0.5)
    choose = pool.FairPool._heir
    late: list[Any] = []

    def choose_late(*args: Any) -> Any:
        heir = choose(*args)
        while heir is not None and heir.call.left_s() > -0.01 and not late:
            time.sleep(0.002)
        late.append(heir)
        return heir

    monkeypatch.setattr(pool.FairPool, "_heir", choose_late)
    held = client.connection_pool.get_connection()
    tasks = one_after_another(client, [0.0, 0.03, 0.15, 0.01])
    with paused(server):
        client.connection_pool.release(held)
        results(tasks[:2])
    outcomes = results(tasks)
    assert late[0] is not None
    assert kinds(outcomes[:2]) == {OutcomeUnknown}
    assert outcomes[2:] == [3, 4]
    assert client.incr("n") == 5


def test_leader_that_has_come_too_late_to_send_leaves_nobody_in_doubt(
    server: Embedded, connect_to: Any, direct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect_to(server, connected=True, pool_size=1, deadline_s=0.5)
    board = pool.FairPool._board
    boarded: list[Any] = []

    def board_late(*args: Any) -> Any:
        boarded.append(board(*args))
        if len(boarded) == 1:
            time.sleep(0.3)  # until the leader's deadline is over, and before that of the others
        return boarded[-1]

    monkeypatch.setattr(pool.FairPool, "_board", board_late)
    held = client.connection_pool.get_connection()
    tasks = one_after_another(client, [0.0, 0.2, 0.01, 0.01, 0.01])
    client.connection_pool.release(held)
    outcomes = results(tasks)
    assert len(boarded[0]) == 4
    assert kinds(outcomes) <= {int, Unavailable}
    assert type(outcomes[0]) is Unavailable
    assert int(direct.get("n") or 0) == sum(isinstance(outcome, int) for outcome in outcomes)


def test_closing_the_client_under_way_settles_everybody(server: Embedded, connect_to: Any) -> None:
    client, enough = connect_to(server, pool_size=2, deadline_s=10.0), threading.Event()

    def ask(number: int) -> None:
        while not enough.is_set():
            assert client.echo(str(number)) == str(number).encode()

    tasks = [Task(lambda number=number: ask(number)) for number in range(16)]
    for _ in range(30):
        client.close()
        time.sleep(0.005)
    enough.set()
    assert results(tasks) == [None] * 16
    assert client.pool_stats().in_use == 0
