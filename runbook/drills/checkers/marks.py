"""A few bits for each value of a history, in as little memory as ten millions of them allow."""

from collections.abc import Iterator

# A number is given a byte of its own up to this, and up to eight times as many as there are values; what lies beyond is nobody's next one.
_AHEAD = 1 << 20


class Marks:
    """Bits by value: a byte for each `<worker>:<number>`, and an entry of a dict for any other text."""

    def __init__(self) -> None:
        self._rows: dict[str, bytearray] = {}
        self._others: dict[str, int] = {}
        self._count = 0

    def __getitem__(self, value: str) -> int:
        if value in self._others:
            return self._others[value]
        worker, number = split(value)
        row = self._rows.get(worker)
        return row[number] if row is not None and 0 <= number < len(row) else 0

    def add(self, value: str, bits: int) -> int:
        """Add bits to those of a value, and return those that it had."""
        worker, number = split(value)
        if number < 0 or number > _AHEAD + 8 * self._count or value in self._others:
            before = self._others.get(value, 0)
            self._others[value] = before | bits
            return before
        row = self._rows.get(worker)
        if row is None:
            row = self._rows[worker] = bytearray()
        if number >= len(row):
            row.extend(bytes(number + 1 - len(row)))
        before = row[number]
        row[number] = before | bits
        self._count += not before
        return before

    def having(self, bits: int) -> Iterator[str]:
        """Yield each value that has exactly these bits."""
        for worker, row in self._rows.items():
            number = row.find(bits)
            while number >= 0:
                yield f"{worker}:{number}"
                number = row.find(bits, number + 1)
        yield from (value for value, found in self._others.items() if found == bits)


def split(value: str) -> tuple[str, int]:
    """Take `<worker>:<number>` apart; the number is -1 if the value is written otherwise."""
    worker, colon, number = value.rpartition(":")
    if colon and number.isdecimal() and number.isascii() and (number[0] != "0" or number == "0"):
        return worker, int(number)
    return worker, -1
