"""Streams of operations: the same seed gives the same ones, and each append is one of its kind."""

import itertools
from typing import Any

import pytest
import redis

from runbook.load import Basics, Counter, Ledger, Members, Operation, Ping, Register, Repeated, Workload


class Scribe(redis.Redis):
    """Writes down the commands that an operation would send, and sends none."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[tuple[Any, ...]] = []

    def execute_command(self, *args: Any, **options: Any) -> None:
        self.commands.append(args)


def _commands(workload: Workload, worker: int = 0, count: int = 300) -> list[tuple[Any, ...]]:
    scribe = Scribe()
    for operation in itertools.islice(workload.operations(worker), count):
        operation.call(scribe)
    return scribe.commands


def _take(workload: Workload, count: int, worker: int = 0) -> list[Operation]:
    return list(itertools.islice(workload.operations(worker), count))


class TestLedger:
    def test_each_append_carries_its_worker_and_a_number_counted_from_0(self) -> None:
        assert [operation.value for operation in _take(Ledger("l"), 3, worker=7)] == ["7:0", "7:1", "7:2"]

    def test_values_are_unique_over_all_workers(self) -> None:
        values = [operation.value for worker in range(20) for operation in _take(Ledger("l"), 200, worker)]
        assert len(set(values)) == len(values)

    def test_what_is_appended_is_the_value_that_the_history_holds(self) -> None:
        assert _commands(Ledger("ledger"), worker=2, count=2) == [("RPUSH", "ledger", "2:0"), ("RPUSH", "ledger", "2:1")]


class TestCounter:
    def test_each_increment_is_numbered_and_all_count_together(self) -> None:
        assert [operation.value for operation in _take(Counter("c"), 2, worker=3)] == ["3:0", "3:1"]
        assert _commands(Counter("c"), worker=3, count=2) == [("INCRBY", "c", 1)] * 2


class TestMembers:
    def test_each_member_carries_its_worker_and_a_number(self) -> None:
        assert _commands(Members("set"), worker=2, count=2) == [("SADD", "set", "2:0"), ("SADD", "set", "2:1")]


class TestRegister:
    def test_a_worker_writes_and_reads_a_key_of_its_own_in_turn(self) -> None:
        commands = _commands(Register("r:"), worker=2, count=4)
        assert commands == [("SET", "r:2", "2:0"), ("GET", "r:2"), ("SET", "r:2", "2:1"), ("GET", "r:2")]

    def test_what_is_read_is_the_value_that_the_history_holds(self) -> None:
        write, read = _take(Register("r:"), 2)
        assert write.read is None
        assert read.read is not None
        assert [read.read(reply) for reply in (b"0:1", "0:1", None, b"\xff")] == ["0:1", "0:1", "", "\\xff"]


class TestBasics:
    def test_the_same_seed_gives_the_same_stream(self) -> None:
        assert _commands(Basics("k:", seed=3)) == _commands(Basics("k:", seed=3))

    def test_another_seed_gives_another_stream(self) -> None:
        assert _commands(Basics("k:", seed=3)) != _commands(Basics("k:", seed=4))

    def test_each_worker_has_a_stream_of_its_own(self) -> None:
        assert _commands(Basics("k:"), worker=0) != _commands(Basics("k:"), worker=1)

    def test_each_operation_is_named_for_the_command_that_it_sends(self) -> None:
        names = [operation.name for operation in _take(Basics("k:"), 300)]
        assert names == [command[0] for command in _commands(Basics("k:"))]

    def test_the_three_kinds_come_in_about_equal_shares(self) -> None:
        names = [operation.name for operation in _take(Basics("k:"), 3000)]
        assert set(names) == {"GET", "SET", "PING"}
        assert all(900 < names.count(name) < 1100 for name in ("GET", "SET", "PING"))

    def test_only_keys_under_its_prefix_are_touched(self) -> None:
        keys = {command[1] for command in _commands(Basics("mine:", keys=10)) if len(command) > 1}
        assert keys == {f"mine:{number}" for number in range(10)}

    @pytest.mark.parametrize("size_bytes", [1, 64, 4096])
    def test_a_value_is_as_long_as_was_asked_for(self, size_bytes: int) -> None:
        sets = [command for command in _commands(Basics("k:", size_bytes=size_bytes)) if command[0] == "SET"]
        assert {len(command[2]) for command in sets} == {size_bytes}


def test_ping_sends_nothing_else() -> None:
    assert set(_commands(Ping())) == {("PING",)}
    assert {operation.expected for operation in _take(Ping(), 3)} == {True}


def test_repeated_sends_the_same_for_every_worker() -> None:
    looked = Repeated(Operation("GET", "", lambda client: client.get("k")))
    assert set(_commands(looked)) == {("GET", "k")}
    assert _take(looked, 2) == [looked.operation] * 2
