"""What is read out of an append-only file: where its commands are, and what each of its bytes is there for."""

import pytest

from runbook.drills.damage.aof_file import Role, Unit, read_aof

SELECT = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
SET = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nhello\r\nworld\r\n"
MULTI, EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nexec\r\n"


def test_units_are_commands_and_transactions_with_their_keys() -> None:
    aof = read_aof(SELECT + SET + MULTI + SET + SET + EXEC)
    first, second = len(SELECT), len(SELECT + SET)
    assert aof.units == (
        Unit(0, first, ()),
        Unit(first, second, (b"k",)),
        Unit(second, second + len(MULTI + SET + SET + EXEC), (b"k", b"k")),
    )


def test_each_byte_has_one_role_but_for_arguments_that_are_no_values() -> None:
    aof = read_aof(SET)
    offsets = [offset for places in (*aof.places.values(), *aof.values.values()) for offset in places]
    assert len(set(offsets)) == len(offsets) == len(SET) - len(b"SET" + b"k")
    read = {role: bytes(SET[at] for at in places) for role, places in aof.places.items()}
    assert read == {
        Role.MARK: b"*$$$",
        Role.DIGIT: b"33112",
        Role.RETURN: b"\r" * 4,
        Role.FEED: b"\n" * 4,
        Role.TERMINATOR: b"\r\n" * 3,
    }
    assert bytes(SET[at] for at in aof.values[b"SET"]) == b"hello\r\nworld"


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (b"SET k a PXAT 7", b"a"),
        (b"rpush k a b", b"ab"),
        (b"SADD k a b", b"ab"),
        (b"HSET k a b c d", b"abcd"),
        (b"ZADD k 1 a 2 b", b"ab"),
        (b"XADD k 1-1 a b", b"ab"),
        (b"DEL k", b""),
    ],
)
def test_which_arguments_are_values_depends_on_the_command(words: bytes, values: bytes) -> None:
    arguments = words.split()
    data = b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in arguments)
    assert bytes(data[at] for offsets in read_aof(data).values.values() for at in offsets) == values


def test_a_unit_stands_before_an_offset_only_as_a_whole() -> None:
    aof = read_aof(SELECT + SET)
    assert [aof.units_before(at) for at in (0, len(SELECT) - 1, len(SELECT), len(SELECT + SET) - 1, len(SELECT + SET))] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("data", [SET[:2], b"#TS:1\r\n" + SET, b"*x\r\n"])
def test_what_is_not_whole_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_aof(data)
