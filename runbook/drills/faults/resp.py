"""Finds where the messages of a RESP stream end, without waiting for all of a message.

RESP2 and RESP3 as the Redis documentation describes them ("Redis serialization protocol specification"); of RESP3, the
streamed types that no server sends are missing.
"""

_BULKS = b"$=!"
_AGGREGATES = b"*~>%|"
_MAPS = b"%|"
_PUSH = b">"
_ATTRIBUTE = b"|"


class Messages:
    """One direction of a connection, from its beginning: requests (inline ones too) or replies."""

    def __init__(self) -> None:
        self._line = b""  # the beginning of a line that is not complete yet
        self._skip = 0  # bytes of a bulk string still to come
        self._owed = 0  # values still to come; 0 between two messages
        self._is_push = False

    def ends(self, data: bytes) -> list[int]:
        """Return the offsets in `data`, the next bytes of the stream, just behind each message; a push message is none."""
        ends = []
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
            else:
                end = data.find(b"\n", at) + 1
                if not end:
                    self._line += data[at:]
                    break
                self._read(self._line + data[at:end])
                self._line = b""
                at = end
            if not self._owed and not self._skip and not self._is_push:
                ends.append(at)
        return ends

    def _read(self, line: bytes) -> None:
        kind = line[:1]
        if not self._owed:
            self._owed, self._is_push = 1, kind == _PUSH
        if kind != _ATTRIBUTE:  # it only precedes a value
            self._owed -= 1
        number = line[1:].strip()
        if not number.isdigit():  # a simple type, an inline command, or the null of RESP2, whose length is -1
            return
        if kind in _BULKS:
            self._skip = int(number) + 2
        elif kind in _AGGREGATES:
            self._owed += int(number) * (2 if kind in _MAPS else 1)
