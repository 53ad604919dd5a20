"""One call: its deadlines, whether it was sent, and the loop of its attempts.

redis-py offers no way to hand a deadline from `execute_command` down to the pool, the connection and the socket, so the call travels
in a context variable, which each thread and each asyncio task has for itself.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import redis

from cachelib.config import Config
from cachelib.errors import CacheError, OutcomeUnknown, Unavailable
from cachelib.policy import Deadline, Effect, Next, backoff_s, decide

T = TypeVar("T")


class Call:
    """What is known of the call under way.

    Args:
        limit: by when all but the reply has happened.
        reply_limit: by when the reply is there; later for a command that blocks.

    Attributes:
        sent: whether any byte of the command may have reached the server, in any attempt.
    """

    __slots__ = ("limit", "reply_limit", "sent")

    def __init__(self, limit: Deadline, reply_limit: Deadline) -> None:
        self.limit, self.reply_limit = limit, reply_limit
        self.sent = False


_deadline: ContextVar[Deadline | None] = ContextVar("cachelib_deadline", default=None)
_call: ContextVar[Call | None] = ContextVar("cachelib_call", default=None)


@contextlib.contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """Bound all calls inside the `with` block, together, instead of each by the configured deadline.

    Args:
        timeout_s: seconds from now; an outer, earlier deadline still holds.

    Raises:
        ValueError: it is not a number above 0.
    """
    if not timeout_s > 0:
        raise ValueError(f"a deadline takes seconds above 0, got {timeout_s!r}")
    outer = _deadline.get()
    token = _deadline.set(Deadline(timeout_s if outer is None else min(timeout_s, outer.left_s())))
    try:
        yield
    finally:
        _deadline.reset(token)


def current_call() -> Call | None:
    """Return the call under way in this thread, None between calls."""
    return _call.get()


def current_deadline(config: Config) -> Deadline:
    """Return by when what this thread does now has to end."""
    call = _call.get()
    return call.limit if call else _deadline.get() or Deadline(config.deadline_s)


def mark_sent() -> None:
    """Note that from here on the command under way may have reached the server."""
    if call := _call.get():
        call.sent = True


def run(config: Config, name: str, effect: Effect, attempt: Callable[[], T], *, blocking_s: float = 0.0, repeatable: bool = True) -> T:
    """Run attempts until one gets a reply, the deadline passes, or another one could apply a write twice.

    Args:
        config: the deadline and the backoff.
        name: of the command, without arguments, for messages.
        effect: what sending it once more would do.
        attempt: sends the command once and returns its reply; calls `mark_sent` before the first byte leaves.
        blocking_s: seconds that the command asks the server to block; its reply may come that much later than the deadline.
        repeatable: false where a new connection would not be the same (WATCH).

    Raises:
        Unavailable: no reply by the deadline, and nothing was changed.
        OutcomeUnknown: it may have been applied, and must not be sent again.
        Refused: the server refused the login or the database.
    """
    outer, began_s = _call.get(), time.monotonic()
    explicit = outer.limit if outer else _deadline.get()  # a pipeline that loads its scripts makes calls within its own
    limit = explicit or Deadline(config.deadline_s)
    call = Call(limit, explicit or Deadline(config.deadline_s + blocking_s))
    token = _call.set(call)
    attempts = 0
    try:
        while True:
            attempts += 1
            sent_before = call.sent
            try:
                return attempt()
            except (redis.AuthenticationError, CacheError) as error:
                # Another attempt can't help; an earlier one may have changed something.
                if decide(effect, sent=call.sent, time_left_s=0.0) is not Next.UNKNOWN:
                    raise
                raise _final(Next.UNKNOWN, config, name, time.monotonic() - began_s, attempts, error) from error
            except redis.BusyLoadingError as error:
                call.sent = sent_before  # the server answered that it did nothing
                failure: Exception = error
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                failure = error
            following = decide(effect, sent=call.sent, time_left_s=limit.left_s() if repeatable else 0.0)
            if following is Next.RETRY:
                wait_s = backoff_s(attempts, config.backoff_base_s, config.backoff_cap_s)
                if wait_s < limit.left_s():
                    time.sleep(wait_s)
                    continue
                # An attempt made at the deadline could fail of nothing but the deadline, and hide why the others did.
                time.sleep(max(0.0, limit.left_s()))
                following = decide(effect, sent=call.sent, time_left_s=0.0)
            raise _final(following, config, name, time.monotonic() - began_s, attempts, failure) from failure
    finally:
        _call.reset(token)


def _final(following: Next, config: Config, name: str, waited_s: float, attempts: int, failure: Exception) -> CacheError:
    waited = f"{waited_s:.3g} s in {attempts} attempt{'s' if attempts > 1 else ''}"
    if following is Next.UNKNOWN:
        return OutcomeUnknown(
            f"{name} was sent to {config.endpoint} and its reply was lost after {waited} ({failure}): it may or may not have been "
            "applied. Read the data back before you send it again."
        )
    return Unavailable(
        f"{name} got no answer from {config.endpoint} within {waited} ({failure}), and changed nothing. Is the server up and reachable?"
    )
