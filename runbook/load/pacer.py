"""When each operation should start, and how to wait for that moment."""

import ctypes
import itertools
import random
import sys
import threading
import time
from collections.abc import Iterator

# How long before the moment to stop sleeping and spin instead: `sleep` wakes up to 0.15 ms late even with the finest timer slack.
SPIN_NS = 200_000
_PR_SET_TIMERSLACK = 29
LOWEST_RATE_PER_S, HIGHEST_RATE_PER_S = 0.001, 10_000_000


def constant(rate_per_s: float, start_ns: int) -> Iterator[int]:
    """Yield the intended starts of a constant rate, without end.

    Args:
        rate_per_s: operations a second.
        start_ns: the first one, on the clock of `time.monotonic_ns`.
    """
    check_rate(rate_per_s)
    return (start_ns + round(number * 1e9 / rate_per_s) for number in itertools.count())


def poisson(rate_per_s: float, start_ns: int, seed: str) -> Iterator[int]:
    """Yield the intended starts of a Poisson process: as many a second on average, each independent of the others, without end.

    Args:
        rate_per_s: operations a second on average.
        start_ns: from when on, on the clock of `time.monotonic_ns`.
        seed: the same one yields the same moments.
    """
    check_rate(rate_per_s)
    choice, scale = random.Random(seed), rate_per_s / 1e9
    return (start_ns + round(ahead) for ahead in itertools.accumulate(choice.expovariate(scale) for _ in itertools.repeat(None)))


def check_rate(rate_per_s: float) -> None:
    """Refuse a rate that is none, or beyond what any process of ours could offer.

    Raises:
        ValueError: it is not a number above 0, or lies beyond the bounds.
    """
    if not 0 < rate_per_s < float("inf"):
        raise ValueError(f"a rate takes operations a second above 0, got {rate_per_s!r}")
    if not LOWEST_RATE_PER_S <= rate_per_s <= HIGHEST_RATE_PER_S:
        raise ValueError(f"a rate takes {LOWEST_RATE_PER_S:g} to {HIGHEST_RATE_PER_S:,} operations a second, got {rate_per_s:g}")


def check_duration(duration_s: float) -> None:
    """Refuse a duration that is none.

    Raises:
        ValueError: it is not a finite number above 0.
    """
    if not 0 < duration_s < float("inf"):
        raise ValueError(f"a load takes seconds above 0, got {duration_s!r}")


def sharpen_timers() -> None:
    """Ask the kernel to wake this thread on time instead of up to 50 µs late (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)


def wait_until(moment_ns: int, stop: threading.Event, *, spin: bool) -> bool:
    """Wait for a moment of `time.monotonic_ns`; return False if `stop` was set meanwhile.

    Args:
        moment_ns: until when; one that has passed returns at once.
        stop: ends the wait early.
        spin: whether to burn the CPU for the last 0.2 ms, for a start that is late by microseconds instead of 0.1 ms.
    """
    ahead_ns = moment_ns - time.monotonic_ns() - (SPIN_NS if spin else 0)
    while ahead_ns > 0 and not stop.is_set():
        time.sleep(min(ahead_ns, 50_000_000) / 1e9)
        ahead_ns = moment_ns - time.monotonic_ns() - (SPIN_NS if spin else 0)
    while spin and time.monotonic_ns() < moment_ns and not stop.is_set():
        pass
    return not stop.is_set()
