"""Where a reply ends, and whether it is the right one."""

import pytest

from runbook.load.replies import problem_of, reply_end
from runbook.load.traffic import Request

WHOLE = {
    "status": b"+OK\r\n",
    "error": b"-ERR no\r\n",
    "integer": b":-12\r\n",
    "bulk": b"$5\r\nhello\r\n",
    "bulk that holds line ends": b"$6\r\na\r\nb\r\n\r\n",
    "bulk that looks like an array": b"$4\r\n*9\r\n\r\n",
    "empty bulk": b"$0\r\n\r\n",
    "nil": b"$-1\r\n",
    "array": b"*2\r\n$1\r\na\r\n:1\r\n",
    "empty array": b"*0\r\n",
    "nil array": b"*-1\r\n",
    "nested arrays": b"*3\r\n*2\r\n:1\r\n*1\r\n$2\r\nab\r\n*0\r\n$-1\r\n",
}
EACH = pytest.mark.parametrize("reply", WHOLE.values(), ids=WHOLE)


@EACH
def test_a_reply_ends_where_the_next_one_begins(reply: bytes) -> None:
    assert reply_end(reply, 0) == len(reply)
    assert reply_end(b"+OK\r\n" + reply + b":1\r\n", 5) == 5 + len(reply)


@EACH
def test_a_reply_is_incomplete_at_every_prefix(reply: bytes) -> None:
    needed = [-reply_end(reply[:length], 0) for length in range(len(reply))]
    assert all(length < least <= len(reply) for length, least in enumerate(needed))


@pytest.mark.parametrize(
    "data", [b"$abc\r\n", b"*x\r\n", b"$\r\n", b"$1.5\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"\x15\x03\x01", b"\r\n", b"*1\r\n?"]
)
def test_what_is_no_reply_is_unreadable(data: bytes) -> None:
    with pytest.raises(ValueError, match="unreadable reply"):
        reply_end(data, 0)


@pytest.mark.parametrize(
    ("request_", "reply", "problem"),
    [
        (Request("SET", b"", b"+OK\r\n"), b"+OK\r\n", ""),
        (Request("SET", b"", b"+OK\r\n"), b"-OOM command not allowed\r\n", "error OOM command not allowed"),
        (Request("GET", b"", b"$1\r\nx\r\n"), b"$1\r\ny\r\n", r"unexpected reply '$1\r\ny'"),
        (Request("GET", b"", b"$1\r\nx\r\n"), b"$-1\r\n", "unexpected reply '$-1'"),
        (Request("GET", b"", b"$1\r\nx\r\n", b"$-1\r\n"), b"$-1\r\n", ""),
        (Request("INCR", b"", None, b":"), b":12\r\n", ""),
        (Request("INCR", b"", None, b":"), b"-WRONGTYPE\r\n", "error WRONGTYPE"),
        (Request("INCR", b"", None, b":"), b"\xff\r\n", "unexpected reply '\ufffd'"),
    ],
)
def test_a_wrong_reply_is_named(request_: Request, reply: bytes, problem: str) -> None:
    assert problem_of(request_, reply) == problem


def test_a_long_wrong_reply_is_cut() -> None:
    assert len(problem_of(Request("GET", b"", b"$-1\r\n"), b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n")) < 200
