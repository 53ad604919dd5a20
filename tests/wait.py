"""Waiting for a state instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(predicate: Callable[[], T], timeout_s: float = 10.0) -> T:
    """Call `predicate` again and again until it returns something true, and return that.

    Raises:
        AssertionError: it did not within `timeout_s`.
    """
    until_s = time.monotonic() + timeout_s
    while not (answer := predicate()):
        assert time.monotonic() < until_s, f"still {answer!r} after {timeout_s:g} s"
        time.sleep(0.002)
    return answer
