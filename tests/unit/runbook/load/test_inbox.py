"""The pieces of a reply."""

from hypothesis import given
from hypothesis import strategies as st

from runbook.load.inbox import Inbox


def test_what_comes_whole_is_handed_on() -> None:
    assert Inbox().take(b"+OK\r\n") == b"+OK\r\n"


def test_nothing_is_joined_before_it_can_be_whole() -> None:
    inbox = Inbox()
    inbox.keep(b"$10\r\nabc", 17)
    assert inbox.take(b"defg") == b""
    assert inbox.take(b"hij\r\n") == b"$10\r\nabcdefghij\r\n"
    assert inbox.take(b"+OK\r\n") == b"+OK\r\n"


@given(st.lists(st.binary(min_size=1), min_size=2), st.integers(0, 400))
def test_no_byte_is_lost_and_none_comes_twice(pieces: list[bytes], needed: int) -> None:
    inbox, seen = Inbox(), b""
    inbox.keep(pieces[0], needed)
    for piece in pieces[1:]:
        seen += inbox.take(piece)
    whole = b"".join(pieces)
    assert seen + b"".join(inbox._pieces) == whole
