"""Reads the commands of an append-only file, and what each of its bytes is there for, so that each kind can be damaged.

The format is that of requests in RESP: `*` and the number of arguments, then for each of them `$`, its length and its bytes.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple

_CRLF = 2
# Which arguments of a command are values, of which any bytes will do.
_VALUES = {
    b"SET": slice(2, 3),
    b"RPUSH": slice(2, None),
    b"SADD": slice(2, None),
    b"HSET": slice(2, None),
    b"ZADD": slice(3, None, 2),
    b"XADD": slice(3, None),
}
_WRITE_NOTHING = (b"SELECT", b"MULTI", b"EXEC")


class Role(enum.StrEnum):
    """What a byte is there for."""

    MARK = "mark"  # `*` or `$`
    DIGIT = "digit"  # of a number of arguments, or of a length
    RETURN = "carriage return"  # behind such a number
    FEED = "line feed"  # behind that
    TERMINATOR = "terminator"  # carriage return or line feed behind an argument


class Unit(NamedTuple):
    """What a server applies as a whole, a command or a transaction: where it begins, what follows it, and which keys it writes."""

    begin: int
    end: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AofFile:
    """What an append-only file holds.

    Attributes:
        units: in their order.
        places: the offsets of the bytes of each role.
        values: those of the bytes of values, by command.
    """

    units: tuple[Unit, ...]
    places: dict[Role, list[int]]
    values: dict[bytes, list[int]]

    def units_before(self, offset: int) -> int:
        """Count the units that end before an offset."""
        return sum(unit.end <= offset for unit in self.units)


def read_aof(data: bytes) -> AofFile:
    """Read a file in which each command writes one key, its first argument.

    Raises:
        ValueError: it is damaged, or it holds annotations.
    """
    places: dict[Role, list[int]] = {role: [] for role in Role}
    values: dict[bytes, list[int]] = {name: [] for name in _VALUES}
    units: list[Unit] = []
    at = begin = 0
    keys: list[bytes] = []
    within = False
    while at < len(data):
        count, at = _number(data, at, places)
        arguments = []
        for _ in range(count):
            length, at = _number(data, at, places)
            arguments.append(range(at, at + length))
            places[Role.TERMINATOR] += (at + length, at + length + 1)
            at += length + _CRLF
        name, *rest = (data[argument.start : argument.stop] for argument in arguments)
        for argument in arguments[_VALUES.get(name.upper(), slice(0))]:
            values[name.upper()] += argument
        if name.upper() not in _WRITE_NOTHING:
            keys.append(rest[0])
        within = name.upper() == b"MULTI" or (within and name.upper() != b"EXEC")
        if not within:
            units.append(Unit(begin, at, tuple(keys)))
            begin, keys = at, []
    return AofFile(tuple(units), places, values)


def _number(data: bytes, at: int, places: dict[Role, list[int]]) -> tuple[int, int]:
    """Read a line such as `*3` or `$14`; return its number, and where the next line begins."""
    end = data.index(b"\r\n", at)
    places[Role.MARK].append(at)
    places[Role.DIGIT] += range(at + 1, end)
    places[Role.RETURN].append(end)
    places[Role.FEED].append(end + 1)
    return int(data[at + 1 : end]), end + _CRLF
