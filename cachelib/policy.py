"""Pure decisions: may this command be sent twice, and how long to wait before the next attempt."""

import enum
import random
from collections.abc import Callable

from cachelib.commands import Effect


class Next(enum.Enum):
    """What follows a failed attempt."""

    RETRY = "retry"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


def decide(effect: Effect, *, sent: bool, time_left_s: float) -> Next:
    """Decide what follows an attempt that ended without a reply.

    Args:
        effect: of the command, or of the whole batch.
        sent: whether the server may have received the whole command, or a part of the batch, in any attempt of this call.
        time_left_s: seconds until the call's deadline.
    """
    # 1. It has not reached the server, or it would change nothing: trying again is free.
    if effect is Effect.READ or not sent:
        return Next.RETRY if time_left_s > 0 else Next.UNAVAILABLE
    # 2. Sent, and sending it again leads to the same state. At the deadline it may still have been applied.
    if effect is Effect.IDEMPOTENT and time_left_s > 0:
        return Next.RETRY
    # 3. Sent, and must not be sent again.
    return Next.UNKNOWN


def backoff_s(attempt: int, base_s: float, cap_s: float, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Compute a call's wait before its next attempt: exponential with full jitter.

    Args:
        attempt: how many attempts have failed, from 1.
        base_s: the upper bound of the first wait, in seconds; it doubles with each attempt.
        cap_s: the highest upper bound, in seconds.
        uniform: draws between two bounds.

    The algorithm is "full jitter" of Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return uniform(0.0, _bound_s(attempt, base_s, cap_s))


def probe_wait_s(failures: int, base_s: float, cap_s: float, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Compute the prober's wait before it connects again: exponential, the upper fifth of it jittered.

    Full jitter would halve the mean wait, and a cap of 50 ms then gives 40 attempts a second. There is one prober for all callers of a
    process, so it needs jitter against other processes only: this gives 22 a second.

    Args:
        failures: attempts that have failed in this outage, from 1.
        base_s: the upper bound of the first wait, in seconds; it doubles with each failure.
        cap_s: the highest upper bound, in seconds.
        uniform: draws between two bounds.
    """
    bound_s = _bound_s(failures, base_s, cap_s)
    return uniform(0.8 * bound_s, bound_s)


def _bound_s(attempt: int, base_s: float, cap_s: float) -> float:
    return min(cap_s, base_s * 2.0 ** min(attempt - 1, 60))
