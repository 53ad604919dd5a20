"""The pure decisions: what may be sent twice, how long to wait, how much time is left."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelib import commands
from cachelib.commands import Effect, blocking_s, command_name, effect_of, worst_effect
from cachelib.policy import Next, backoff_s, decide, probe_wait_s

READ, IDEMPOTENT, ONCE = Effect.READ, Effect.IDEMPOTENT, Effect.ONCE


def _shown(word: Any) -> str:
    return f"memoryview {bytes(word)!r}" if isinstance(word, memoryview) else str(word)


@pytest.mark.parametrize(
    ("command", "effect"),
    [
        # The spelling of the name does not matter.
        (("GET", "k"), READ),
        (("get", "k"), READ),
        ((b"GET", b"k"), READ),
        ((b"get", b"k"), READ),
        (("GET k",), READ),
        (("set", b"k", b"v"), IDEMPOTENT),
        ((b"incr", "n"), ONCE),
        # A container's second word decides, in both of redis-py's forms.
        (("CONFIG GET", "save"), READ),
        (("CONFIG", "GET", "save"), READ),
        (("config", b"get", "save"), READ),
        (("CONFIG SET", "save", ""), IDEMPOTENT),
        (("CONFIG", "SET", "save", ""), IDEMPOTENT),
        (("CONFIG RESETSTAT",), ONCE),
        (("CONFIG", "RESETSTAT"), ONCE),
        (("SCRIPT EXISTS", "sha"), READ),
        (("SCRIPT", "LOAD", "return 1"), IDEMPOTENT),
        (("SCRIPT FLUSH",), ONCE),
        (("XINFO", "STREAM", "s"), READ),
        (("XGROUP CREATE", "s", "g", "$"), ONCE),
        (("OBJECT", "ENCODING", "k"), READ),
        (("CLIENT KILL", "ID", 3), ONCE),
        (("COMMAND",), READ),
        # The options of SET.
        (("SET", "k", "v"), IDEMPOTENT),
        (("SET", "k", "v", "EX", 10), IDEMPOTENT),
        (("SET", "k", "v", "PX", 10, "KEEPTTL"), IDEMPOTENT),
        (("SET", "k", 3.5), IDEMPOTENT),
        (("SET", "k", "v" * 1000), IDEMPOTENT),
        (("SET", "k", "v", "NX"), ONCE),
        (("SET", "k", "v", "nx"), ONCE),
        (("SET", b"k", b"v", b"NX"), ONCE),
        (("SET", "k", "v", memoryview(b"NX")), ONCE),
        (("SET", "k", "v", "EX", 10, "XX"), ONCE),
        (("SET", "k", "v", "GET"), ONCE),
        (("SET", "NX", "v"), IDEMPOTENT),
        (("DEL", "NX", "GET"), IDEMPOTENT),
        # The flags of ZADD and their kin.
        (("ZADD", "z", 1, "m"), IDEMPOTENT),
        (("ZADD", "z", "NX", 1, "m"), ONCE),
        (("ZADD", "z", "XX", 1, "m"), ONCE),
        (("ZADD", "z", "GT", 1, "m"), ONCE),
        (("ZADD", "z", "LT", 1, "m"), ONCE),
        (("ZADD", "z", "CH", 1, "m"), ONCE),
        (("ZADD", "z", "INCR", 1, "m"), ONCE),
        (("GEOADD", "g", 1, 2, "m"), IDEMPOTENT),
        (("GEOADD", "g", "CH", 1, 2, "m"), ONCE),
        (("EXPIRE", "k", 10), IDEMPOTENT),
        (("EXPIRE", "k", 10, "NX"), ONCE),
        (("PEXPIREAT", "k", 10, "GT"), ONCE),
        (("GETEX", "k", "EX", 10), IDEMPOTENT),
        (("GETEX", "k", "PXAT", 10), ONCE),
        # From the last entry on is not the same place twice.
        (("XREAD", "STREAMS", "s", "0-1"), READ),
        (("XREAD", "BLOCK", 10, "STREAMS", "s", b"$"), ONCE),
        # SORT writes only where it stores.
        (("SORT", "k"), READ),
        (("SORT", "k", "BY", "w_*", "DESC"), READ),
        (("SORT", "STORE"), READ),
        (("SORT", "k", "STORE", "d"), ONCE),
        (("sort", b"k", b"store", b"d"), ONCE),
        (("SORT_RO", "k"), READ),
        # A destination that is also a later source: b - (b - a) is not b - a.
        (("SDIFFSTORE", "a", "b", "a"), ONCE),
        # Each application counts, pops, appends or tells who was first.
        *(
            ((name, "k", "v"), ONCE)
            for name in (
                "APPEND BITFIELD COPY DECR EVAL EVALSHA FCALL FLUSHALL GETDEL GETSET HINCRBY HSETNX INCRBYFLOAT LMOVE LPOP LPUSH "
                "LTRIM MSETNX PUBLISH RENAME RPOPLPUSH SETNX SMOVE SPOP XADD XREADGROUP ZINCRBY ZPOPMIN ZREMRANGEBYRANK BLPOP"
            ).split()
        ),
        # What the tables don't know.
        (("FROBNICATE", "k"), ONCE),
        (("FT.SEARCH", "index", "*"), ONCE),
        ((3,), ONCE),
    ],
    ids=lambda value: " ".join(map(_shown, value))[:40] if isinstance(value, tuple) else value.name,
)
def test_effect_of(command: tuple[Any, ...], effect: Effect) -> None:
    assert effect_of(command) is effect


def test_tables_hold_names_as_they_are_looked_up() -> None:
    """A name that `command_name` would never return could be missed in silence."""
    names = commands._READ | commands._IDEMPOTENT | commands._BLOCKING
    assert {command_name((name,)) for name in names} == names


def test_no_command_is_both_read_and_idempotent() -> None:
    assert not commands._READ & commands._IDEMPOTENT


@pytest.mark.parametrize(
    ("commands", "effect"),
    [
        ([], READ),
        ([("GET", "a"), ("MGET", "b")], READ),
        ([("GET", "a"), ("SET", "b", 1)], IDEMPOTENT),
        ([("SET", "b", 1), ("INCR", "n"), ("GET", "a")], ONCE),
        ([("SET", "a", 1), ("GET", "a")], IDEMPOTENT),
        # What is read first is not there any more the second time.
        ([("LRANGE", "q", 0, -1), ("DEL", "q")], ONCE),
        ([("LRANGE", b"q", 0, -1), ("DEL", "p", "q")], ONCE),
        ([("KEYS", "q*"), ("DEL", "q")], ONCE),
        ([("SUNIONSTORE", "backup", "live"), ("DEL", "live")], ONCE),
        ([("DEL", "q"), ("LRANGE", "q", 0, -1)], IDEMPOTENT),
    ],
)
def test_a_batch_is_as_repeatable_as_what_it_reads_and_its_least_repeatable_command(
    commands: list[tuple[Any, ...]], effect: Effect
) -> None:
    assert worst_effect(commands) is effect


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (("GET", "k"), 0.0),
        (("BLPOP", "a", "b", 2), 2.0),
        (("blpop", "a", "0.5"), 0.5),
        ((b"BRPOP", b"a", b"1"), 1.0),
        (("BLPOP", "a", 0), math.inf),
        (("BLMOVE", "a", "b", "LEFT", "RIGHT", 3), 3.0),
        (("BRPOPLPUSH", "a", "b", 3), 3.0),
        (("BZPOPMIN", "z", 1.5), 1.5),
        (("BLMPOP", 2, 1, "a", "LEFT", "COUNT", 10), 2.0),
        (("BZMPOP", 0, 1, "z", "MIN"), math.inf),
        (("WAIT", 1, 500), 0.5),
        (("WAITAOF", 1, 0, 500), 0.5),
        (("WAIT", 1, 0), math.inf),
        (("XREAD", "STREAMS", "s", "$"), 0.0),
        (("XREAD", "COUNT", 1, "BLOCK", 1500, "STREAMS", "s", "$"), 1.5),
        (("XREAD", "BLOCK", 0, "STREAMS", "s", "$"), math.inf),
        (("XREAD", "STREAMS", "block", "7"), 0.0),
        (("XREADGROUP", "GROUP", "g", "c", "BLOCK", 250, "STREAMS", "s", ">"), 0.25),
        (("XREADGROUP", "GROUP", "streams", "c", "BLOCK", 250, "STREAMS", "s", ">"), 0.25),
        (("XREADGROUP", "GROUP", "g", "block", "BLOCK", 250, "STREAMS", "s", ">"), 0.25),
        # The server refuses these at once; they must not shorten or spoil the deadline.
        (("BLPOP",), 0.0),
        (("BLPOP", "a", "soon"), 0.0),
        (("BLPOP", "a", -1), 0.0),
        (("BLPOP", "a", "nan"), 0.0),
        (("WAIT", 1, -500), 0.0),
        (("XREAD", "BLOCK", "STREAMS", "s", "$"), 0.0),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_blocking_s(command: tuple[Any, ...], seconds: float) -> None:
    assert blocking_s(command) == seconds


@pytest.mark.parametrize(
    ("effect", "sent", "in_time", "too_late"),
    [
        (READ, False, Next.RETRY, Next.UNAVAILABLE),
        (READ, True, Next.RETRY, Next.UNAVAILABLE),
        (IDEMPOTENT, False, Next.RETRY, Next.UNAVAILABLE),
        (IDEMPOTENT, True, Next.RETRY, Next.UNKNOWN),
        (ONCE, False, Next.RETRY, Next.UNAVAILABLE),
        (ONCE, True, Next.UNKNOWN, Next.UNKNOWN),
    ],
)
def test_decide(effect: Effect, sent: bool, in_time: Next, too_late: Next) -> None:
    assert [decide(effect, sent=sent, time_left_s=left_s) for left_s in (math.inf, 0.001, 0.0, -1.0)] == [in_time] * 2 + [too_late] * 2


BASES = st.floats(1e-4, 1.0)
ATTEMPTS = st.integers(1, 10_000)


@given(ATTEMPTS, BASES, st.floats(1.0, 100.0))
def test_backoff_lies_between_zero_and_its_cap(attempt: int, base_s: float, cap_s: float) -> None:
    assert 0.0 <= backoff_s(attempt, base_s, cap_s) <= cap_s


@given(ATTEMPTS, BASES)
def test_upper_bound_of_backoff_doubles_until_the_cap(attempt: int, base_s: float) -> None:
    def bound_s(attempt: int) -> float:
        return backoff_s(attempt, base_s, 50.0, uniform=lambda low, high: high)

    assert bound_s(1) == base_s
    assert bound_s(attempt + 1) == min(50.0, 2 * bound_s(attempt))


@given(ATTEMPTS, BASES)
def test_prober_waits_between_four_fifths_of_a_bound_and_the_bound(failures: int, base_s: float) -> None:
    bound_s = backoff_s(failures, base_s, 50.0, uniform=lambda low, high: high)
    assert 0.8 * bound_s <= probe_wait_s(failures, base_s, 50.0) <= bound_s


def test_one_prober_makes_fewer_than_25_attempts_a_second() -> None:
    """Over an outage of 10 s, the quick ones at its beginning included."""
    waits_s = [probe_wait_s(failures, 0.001, 0.05) for failures in range(1, 1000)]
    attempts = sum(sum(waits_s[:count]) < 10.0 for count in range(1000))
    assert attempts < 250


def test_backoff_jitters() -> None:
    """Clients that failed together don't come back together."""
    waits_s = [backoff_s(5, 0.01, 1.0) for _ in range(200)]
    assert len(set(waits_s)) > 190
    assert min(waits_s) < 0.04
    assert max(waits_s) > 0.12


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("get", "k"), "GET"),
        ((b"SET", "k", "v"), "SET"),
        (("CONFIG SET", "requirepass", "hunter2"), "CONFIG SET"),
        (("CONFIG", "SET", "requirepass", "hunter2"), "CONFIG SET"),
        (("config set requirepass hunter2",), "CONFIG SET"),
        (("AUTH hunter2",), "AUTH"),
        (("ACL", b"SETUSER", "bob", ">hunter2"), "ACL SETUSER"),
        (("COMMAND",), "COMMAND"),
    ],
    ids=str,
)
def test_command_name(command: tuple[Any, ...], name: str) -> None:
    assert command_name(command) == name


@given(
    st.sampled_from(["AUTH", "SET", "HELLO", "FROBNICATE", "CONFIG SET", "ACL SETUSER", "EVAL"]),
    st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6), min_size=1),
    st.sampled_from(["one string", "one argument each", "bytes"]),
)
def test_command_name_never_shows_an_argument(name: str, arguments: list[str], form: str) -> None:
    command: tuple[Any, ...] = (" ".join([name, *arguments]),)
    if form != "one string":
        command = (*name.split(), *arguments)
    if form == "bytes":
        command = tuple(word.encode() for word in command)
    assert command_name(command) == name
