"""An append-only set that a server has written, and the ways in which a copy of it is damaged."""

import enum
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook.drills.damage.aof_file import Role, read_aof
from runbook.drills.damage.items import Value, Values
from runbook.drills.damage.manifest import DIRECTORY, NAME
from runbook.drills.faults.files import cut, overwrite

# More than the last command, of which the server might skip what is changed; up to a sector.
ZEROED_BYTES = 16, 512


class Kind(enum.StrEnum):
    """What is damaged, and how."""

    NOTHING = "nothing"
    CUT = "increment cut off"
    FRAMING = "byte of the framing changed"
    SKIPPED = "byte changed that is skipped on loading"
    FEED = "line feed changed"
    LENGTH = "length of a value larger by 4"
    VALUE = "byte of a value changed"
    ZEROS = "tail zeroed"
    BASE = "byte of the base changed"
    NO_BASE = "base missing"
    NO_INCREMENT = "increment missing"
    NO_MANIFEST = "manifest missing"
    GARBAGE = "manifest of garbage"
    EMPTY = "manifest empty"
    SHORT = "manifest without its last line"


# What redis-check-aof can cut off, and what a manifest written anew can repair.
CUT_OFF = (Kind.CUT, Kind.FRAMING, Kind.FEED, Kind.ZEROS, Kind.LENGTH, Kind.SKIPPED)
REWRITTEN = (Kind.NO_MANIFEST, Kind.GARBAGE, Kind.EMPTY, Kind.SHORT)


@dataclass(frozen=True, slots=True)
class Original:
    """An append-only set of a base and one increment.

    Attributes:
        folder: the data folder of a server.
        before: the values in the base.
        written: all values.
        digest: what our digest makes of them.
    """

    folder: Path
    before: Values
    written: Values
    digest: str

    @property
    def increment(self) -> Path:
        """Its increment."""
        return next((self.folder / DIRECTORY).glob("*.incr.aof"))

    def whole_before(self, units: int | None) -> dict[bytes, Value]:
        """Return what the base and the first units of the increment hold; nothing where there are none, not even of the base."""
        if units is None:
            return {}
        keys = [key for unit in read_aof(self.increment.read_bytes()).units[:units] for key in unit.keys]
        return {**self.before, **{key: self.written[key] for key in keys}}


@dataclass(frozen=True, slots=True)
class Case:
    """One way to damage a copy.

    Attributes:
        kind: what is damaged.
        name: where exactly, in words.
        damage: does it to the copy's folder.
        units: how many units of the increment a server can know of: those before the damage, or all where that is elsewhere; None where
            it can't know of the base either.
    """

    kind: Kind
    name: str
    damage: Callable[[Path], object]
    units: int | None


def cases(original: Original, chance: random.Random, cuts: int, each: int) -> Iterator[Case]:
    """Yield the cases, at places chosen by chance.

    Args:
        original: what is to be damaged.
        chance: chooses.
        cuts: at how many offsets the increment is cut off.
        each: how many of every other kind of damage to its bytes.
    """
    path = original.increment
    data = path.read_bytes()
    aof = read_aof(data)
    increment, manifest = f"{DIRECTORY}/{path.name}", f"{DIRECTORY}/{NAME}.manifest"
    base = next(f"{DIRECTORY}/{file.name}" for file in path.parent.glob("*.base.*"))

    def changed(kind: Kind, at: int, byte: int) -> Case:
        name = f"offset {at:,}, {data[at : at + 1]!r} to {bytes([byte])!r}"
        return Case(kind, name, _within(increment, overwrite, at, bytes([byte])), aof.units_before(at))

    yield Case(Kind.NOTHING, "an undamaged copy", lambda folder: None, len(aof.units))
    for length in [len(data) - 1, *chance.sample(range(len(data) - 1), cuts - 1)]:
        yield Case(Kind.CUT, f"{length:,} of {len(data):,} bytes left", _within(increment, cut, length), aof.units_before(length))
    # Far from the end, where what is read on by mistake could look like a file that was cut off.
    places = {role: [at for at in offsets if at < len(data) // 2] for role, offsets in aof.places.items()}
    for _ in range(each):
        for role in (Role.MARK, Role.DIGIT):
            at = chance.choice(places[role])
            yield changed(Kind.FRAMING, at, data[at] ^ 0x40)  # no digit any more
        for role, kind in ((Role.RETURN, Kind.SKIPPED), (Role.TERMINATOR, Kind.SKIPPED), (Role.FEED, Kind.FEED)):
            at = chance.choice(places[role])
            yield changed(kind, at, data[at] ^ 1 << chance.randrange(8))
        for offsets in aof.values.values():
            at = chance.choice(offsets)
            yield changed(Kind.VALUE, at, data[at] ^ 1 << chance.randrange(8))
        # A value of 40 bytes, what ends it, and `*3`: four bytes more end where a line ends too, as a value may.
        strings = [at for at in aof.values[b"SET"] if at < len(data) // 2]
        alone = [at for at in strings if data[at - 1 : at] == b"\n" and len(aof.units[aof.units_before(at)].keys) == 1]
        at = chance.choice(alone) - len("0\r\n")
        yield changed(Kind.LENGTH, at, data[at] + 4)
        tail = chance.randint(*ZEROED_BYTES)
        zeroing = _within(increment, overwrite, len(data) - tail, bytes(tail))
        yield Case(Kind.ZEROS, f"the last {tail} bytes", zeroing, aof.units_before(len(data) - tail))

    garbage = bytes(chance.randrange(128, 256) for _ in range(100))
    elsewhere: list[tuple[Kind, str, Callable[..., object], tuple[Any, ...]]] = [
        (Kind.BASE, base, _flip_middle, ()),
        (Kind.NO_BASE, base, Path.unlink, ()),
        (Kind.NO_INCREMENT, increment, Path.unlink, ()),
        (Kind.NO_MANIFEST, manifest, Path.unlink, ()),
        (Kind.GARBAGE, manifest, Path.write_bytes, (garbage,)),
        (Kind.EMPTY, manifest, cut, (0,)),
        (Kind.SHORT, manifest, cut, (len((original.folder / manifest).read_bytes().splitlines(keepends=True)[0]),)),
    ]
    for kind, file, damage, arguments in elsewhere:
        units = {Kind.NO_MANIFEST: None, Kind.SHORT: 0}.get(kind, len(aof.units))
        yield Case(kind, file, _within(file, damage, *arguments), units)


def _within(file: str, damage: Callable[..., object], *arguments: Any) -> Callable[[Path], object]:
    return lambda folder: damage(folder / file, *arguments)


def _flip_middle(path: Path) -> None:
    middle = path.stat().st_size // 2
    overwrite(path, middle, bytes([path.read_bytes()[middle] ^ 1]))
