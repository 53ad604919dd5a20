"""Finds where a reply ends ("Redis serialization protocol specification", RESP2), and judges it."""

from runbook.load.traffic import Request

# Of RESP2; the empty one is of a reply that has not arrived.
_KINDS = (b"+", b"-", b":", b"$", b"*", b"")


def reply_end(data: bytes, at: int) -> int:
    """Return the offset just behind the reply that begins at `at`; where it is not complete, minus the least length that `data` must have.

    Raises:
        ValueError: what stands there is the beginning of no reply, so nobody can tell where the next one begins.
    """
    owed = 1
    while owed:
        if data[at : at + 1] not in _KINDS:
            raise ValueError(f"unreadable reply {_shown(data[at : at + 100])!r}")
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return -(len(data) + 1)
        kind = data[at : at + 1]
        if kind == b"$":
            length = _length(data[at:line_end])
            at = line_end + 2 if length < 0 else line_end + 4 + length
        else:
            if kind == b"*":
                owed += max(0, _length(data[at:line_end]))
            at = line_end + 2
        if at > len(data):
            return -at
        owed -= 1
    return at


def problem_of(request: Request, reply: bytes) -> str:
    """Say what is wrong with a reply; empty if nothing is."""
    if reply == request.expected or (request.prefix is not None and reply.startswith(request.prefix)):
        return ""
    text = _shown(reply[:100])
    return f"error {text[1:]}" if text.startswith("-") else f"unexpected reply {text!r}"


def _length(line: bytes) -> int:
    try:
        return int(line[1:])
    except ValueError:
        raise ValueError(f"unreadable reply {_shown(line[:100])!r}") from None


def _shown(reply: bytes) -> str:
    return reply.rstrip().decode(errors="replace")
