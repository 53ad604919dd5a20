"""Finds where a reply ends ("Redis serialization protocol specification", RESP2), and judges it."""

from runbook.load.traffic import Request


def reply_end(data: bytes, at: int) -> int:
    """Return the offset just behind the reply that begins at `at`; -1 where it is not complete."""
    owed = 1
    while owed:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return -1
        kind = data[at : at + 1]
        if kind == b"$":
            length = int(data[at + 1 : line_end])
            at = line_end + 2 if length < 0 else line_end + 4 + length
        else:
            if kind == b"*":
                owed += max(0, int(data[at + 1 : line_end]))
            at = line_end + 2
        if at > len(data):
            return -1
        owed -= 1
    return at


def problem_of(request: Request, reply: bytes) -> str:
    """Say what is wrong with a reply; empty if nothing is."""
    if reply == request.expected or (request.prefix is not None and reply.startswith(request.prefix)):
        return ""
    text = reply[:100].rstrip().decode(errors="replace")
    return f"error {text[1:]}" if text.startswith("-") else f"unexpected reply {text!r}"
