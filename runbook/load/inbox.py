"""What has arrived of a reply that is not complete, kept in pieces: joining them anew with each one would be timed as the server's."""


class Inbox:
    """The pieces of one connection."""

    __slots__ = ("_needed", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = self._needed = 0

    def take(self, data: bytes) -> bytes:
        """Return all that has arrived; nothing as long as that can't be a whole reply."""
        if not self._pieces:
            return data
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return b""
        held = b"".join(self._pieces)
        self._pieces.clear()
        return held

    def keep(self, rest: bytes, needed: int) -> None:
        """Keep what is not a whole reply yet.

        Args:
            rest: of what has arrived.
            needed: how many bytes there must be at least, these included.
        """
        self._pieces.append(rest)
        self._size, self._needed = len(rest), needed
