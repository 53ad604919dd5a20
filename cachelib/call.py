"""One call: by when it has to end, whether it was sent, and what follows each of its attempts.

redis-py offers no way to hand a deadline from `execute_command` down to the pool, the connection and the socket, so the call travels
in a context variable, which each thread and each asyncio task has for itself.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar

import redis

from cachelib.commands import Effect, command_name, may_be_readonly, worst_effect
from cachelib.config import Config
from cachelib.errors import CacheError, OutcomeUnknown, PoolExhausted, Unavailable
from cachelib.events import Journal, OutcomeLost, Retried, SlowCall
from cachelib.policy import Next, backoff_s, decide

T = TypeVar("T")

_until_s: ContextVar[float | None] = ContextVar("cachelib_until_s", default=None)
_idempotent: ContextVar[bool] = ContextVar("cachelib_idempotent", default=False)
_call: ContextVar["Call | None"] = ContextVar("cachelib_call", default=None)


# What a server answers that has not executed the command, and another or a later one may.
NOT_SERVED = (redis.BusyLoadingError, redis.ReadOnlyError)

_SCRIPTS = frozenset({"EVAL", "EVALSHA", "FCALL"})


class Away(redis.ConnectionError):
    """The server could not be connected to by the deadline of a call that waited for it."""


class Closed(Away):
    """The client was closed under a call."""


class Call:
    """What is known of one call: a command, or a batch of them.

    Args:
        config: the deadline and the backoff.
        journal: is told of retries and of an unknown outcome.
        commands: each as name and arguments; none where the call only connects.
        blocking_s: seconds that the commands ask the server to block; the reply may come that much later than the deadline.
        repeatable: false where a new connection would not be the same (WATCH).
        batch: whether the commands travel as one, be it in a transaction or not.

    Attributes:
        began_s: when it began; all times are of `time.monotonic`, in seconds.
        until_s: by when all but the reply has happened.
        reply_until_s: by when the reply is there; later for a command that blocks.
        patient: whether its deadline is the configured one, and not an earlier one that the caller set.
        sent: whether the server may have received the whole command, or a part of the batch, in any attempt.
        attempts: how many were begun.
        since: when the server was first missed, if the call has waited for its return.
    """

    __slots__ = (
        "_refusal",
        "_sent_before",
        "attempts",
        "batch",
        "began_s",
        "commands",
        "config",
        "future",
        "journal",
        "patient",
        "raw",
        "repeatable",
        "reply_until_s",
        "sent",
        "since",
        "size",
        "until_s",
    )

    # Where it is in flight on a shared line; `Line` sets them. One object for each command instead of two shows with 10,000 of them.
    future: "asyncio.Future[Any]"
    raw: bool
    size: int

    def __init__(
        self,
        config: Config,
        journal: Journal,
        commands: Sequence[tuple[Any, ...]],
        blocking_s: float = 0.0,
        repeatable: bool = True,
        batch: bool = False,
    ) -> None:
        self.config, self.journal, self.commands, self.repeatable, self.batch = config, journal, commands, repeatable, batch
        self.sent = self._sent_before = False
        self.attempts = 1
        self._refusal: redis.ReadOnlyError | None = None  # why an earlier attempt was in vain
        self.since: datetime | None = None
        self.began_s = began_s = time.monotonic()
        until_s = _until_s.get()
        if until_s is None:
            self.until_s = began_s + config.deadline_s
            self.reply_until_s = self.until_s + blocking_s
            self.patient = True
        else:
            self.until_s = self.reply_until_s = until_s
            self.patient = False

    @property
    def name(self) -> str:
        """What the call does, for messages; it shows no argument."""
        if len(self.commands) == 1:
            return command_name(self.commands[0])
        return f"a batch of {len(self.commands)} commands" if self.commands else "connecting"

    @property
    def effect(self) -> Effect:
        """What sending the whole once more would do."""
        effect = worst_effect(self.commands)
        return min(effect, Effect.IDEMPOTENT) if _idempotent.get() else effect

    def left_s(self) -> float:
        """Return the seconds left until all but the reply has to have happened; 0 or less when they are over."""
        return self.until_s - time.monotonic()

    def unsent(self) -> None:
        """Take back that the attempt under way was sent; an earlier one may have been all the same."""
        self.sent = self._sent_before

    def refused(self, commands: int, error: redis.ReadOnlyError) -> None:
        """Note how much of a batch the server has refused: where it is all that could change something, the attempt counts as not sent.

        Args:
            commands: how many were answered READONLY.
            error: with which the attempt has ended; redis-py raises it while it handles the refusal of a whole transaction.
        """
        writes = [command_name(command) for command in self.commands if may_be_readonly(command)]
        aborted = isinstance(error.__context__, redis.exceptions.ExecAbortError)
        if aborted or (commands == len(writes) and not _SCRIPTS & set(writes)):
            self.unsent()

    def succeeded(self) -> None:
        """Tell the journal if the call has taken long, beyond what it asked the server to block."""
        duration_s = time.monotonic() - self.began_s
        if self.commands and duration_s - (self.reply_until_s - self.until_s) > self.config.slow_call_s:
            self.journal.tell(SlowCall(self.config.endpoint, self.name, duration_s))

    def after(self, error: Exception) -> float:
        """Decide what follows an attempt that failed.

        Args:
            error: why. One that says nothing about the connection is raised as it is.

        Returns:
            Seconds to wait before the next attempt.

        Raises:
            Unavailable: no reply by the deadline, and nothing was changed.
            OutcomeUnknown: it may have been applied, and must not be sent again.
            Refused: the server refused the login or the database.
        """
        # Of a batch, other commands may have been served, or one for which only MULTI was not; and a script may have had effects before.
        if isinstance(error, (*NOT_SERVED, redis.AuthenticationError)) and not self.batch and self.name not in _SCRIPTS:
            self.unsent()
        if isinstance(error, redis.AuthenticationError | redis.InvalidResponse | CacheError):
            # Another attempt can't help; an earlier one may have changed something, and so may one whose reply can't be understood.
            if decide(self.effect, sent=self.sent, time_left_s=0.0) is Next.UNKNOWN:
                raise self._final(Next.UNKNOWN, error) from error
            raise error
        if not isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.ReadOnlyError | OSError):
            raise error
        if isinstance(error, redis.ReadOnlyError) and self.sent and self.effect is Effect.ONCE:
            raise error  # a part was refused, and the caller may know which
        if isinstance(error, redis.ReadOnlyError):
            self._refusal = error
        left_s = self.left_s() if self.repeatable and not isinstance(error, Away) else 0.0
        following = decide(self.effect, sent=self.sent, time_left_s=left_s)
        if following is Next.RETRY:
            wait_s = backoff_s(self.attempts, self.config.backoff_base_s, self.config.backoff_cap_s)
            if wait_s < left_s:
                self.journal.tell(Retried(self.config.endpoint, self.name, self.attempts, wait_s, _told(error)))
                self.attempts += 1
                self._sent_before = self.sent
                return wait_s
            # An attempt made at the deadline could fail of nothing but the deadline, and hide why the others did.
            following = decide(self.effect, sent=self.sent, time_left_s=0.0)
        # What made the server away is of more use than that it was.
        cause = error.__cause__ if isinstance(error, Away) and error.__cause__ else error
        if self._refusal and following is Next.UNAVAILABLE and isinstance(cause, TimeoutError | redis.TimeoutError):
            # The last attempt met the deadline before it was sent, which is not why the others failed.
            error = cause = self._refusal
        raise self._final(following, error) from cause

    def _final(self, following: Next, error: Exception) -> CacheError:
        waited_s = time.monotonic() - self.began_s
        waited = f"{waited_s:.3g} s" + (f" in {self.attempts} attempts" if self.attempts > 1 else "")
        endpoint = self.config.endpoint
        if following is Next.UNKNOWN:
            self.journal.tell(OutcomeLost(endpoint, self.name, waited_s, _told(error)))
            return OutcomeUnknown(
                f"{self.name} was sent to {endpoint} and its reply was lost after {waited} ({_told(error)}): it may or may not have been "
                "applied. Read the data back before you send it again."
            )
        if isinstance(error, redis.ReadOnlyError):
            return Unavailable(
                f"{self.name} was answered READONLY by {endpoint} for {waited}, and changed nothing: it is a replica. Name the master in "
                "REDIS_HOST, or wait for its promotion.",
                self.since,
            )
        question = "Does the server speak TLS, and is it up and reachable?" if self.config.tls else "Is the server up and reachable?"
        back = f", after the server went away at {moment(self.since)}" if self.since and not isinstance(error, Away) else ""
        return Unavailable(
            f"{self.name} got no answer from {endpoint} within {waited} ({_told(error)}{back}), and changed nothing. {question}",
            self.since,
        )

    def exhausted(self) -> PoolExhausted:
        """Return the error for a call whose deadline passes before a connection of the pool came free."""
        config = self.config
        message = f"all {config.pool_size} connections to {config.endpoint} stayed in use for {time.monotonic() - self.began_s:.3g} s"
        if self.since:
            advice = f"the server went away at {moment(self.since)}, and others wait or came first. Let REDIS_DEADLINE_S outlast outages"
        else:
            advice = "raise REDIS_POOL_SIZE, or hold connections for a shorter time"
        return PoolExhausted(f"{message}: {advice}", self.since)


def _told(error: Exception) -> str:
    """Say why an attempt failed; redis-py writes the arguments of a batch's command into the error reply to it."""
    return type(error).__name__ if isinstance(error, redis.ResponseError) else str(error)


def moment(when: datetime) -> str:
    """Write a moment as messages do, to the millisecond."""
    return when.isoformat(timespec="milliseconds")


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
    outer_s, inner_s = _until_s.get(), time.monotonic() + timeout_s
    token = _until_s.set(inner_s if outer_s is None else min(outer_s, inner_s))
    try:
        yield
    finally:
        _until_s.reset(token)


@contextlib.contextmanager
def idempotent() -> Iterator[None]:
    """Declare that each call inside the `with` block may be sent twice, since applied twice it leaves the same data as once.

    It is for what no table can know, such as a script. A lost reply is then followed by another attempt instead of `OutcomeUnknown`.
    """
    token = _idempotent.set(True)
    try:
        yield
    finally:
        _idempotent.reset(token)


def current_call() -> Call | None:
    """Return the call under way in this thread or task, None between calls."""
    return _call.get()


def explicit_until_s() -> float | None:
    """Return by when what this thread or task does now has to end, None if nobody has said."""
    return _until_s.get()


@contextlib.contextmanager
def under_way(call: Call) -> Iterator[None]:
    """Make a call the current one: connections and sockets below redis-py's code find its deadline, and calls within it end with it."""
    call_token, until_token = _call.set(call), _until_s.set(call.until_s)
    try:
        yield
    finally:
        _until_s.reset(until_token)
        _call.reset(call_token)


def run(call: Call, attempt: Callable[[], T]) -> T:
    """Run attempts until one gets a reply, the deadline passes, or another one could apply a write twice.

    Args:
        call: is the current call in each attempt.
        attempt: sends the command once and returns its reply; what it uses marks the call as sent.

    Raises:
        CacheError: as `Call.after` says.
    """
    with under_way(call):
        while True:
            try:
                reply = attempt()
                break
            except (redis.RedisError, OSError) as error:
                time.sleep(call.after(error))
    call.succeeded()
    return reply
