"""What is known of a call whose batch was refused, in whole or in part."""

import time
from typing import Any

import pytest
import redis
from redis.exceptions import ExecAbortError

from cachelib import Config, OutcomeUnknown, Unavailable, deadline
from cachelib.call import Away, Call
from cachelib.events import Journal


@pytest.mark.parametrize(
    ("commands", "refused", "sent"),
    [
        ([("SET", "k", 1), ("INCR", "n")], 2, False),
        ([("GET", "k"), ("INCR", "n")], 1, False),
        ([("SET", "k", 1), ("INCR", "n")], 1, True),
        # A replica refuses SORT even where it only reads.
        ([("SORT", "l"), ("INCR", "n")], 1, True),
        ([("SORT", "l"), ("INCR", "n")], 2, False),
        ([("SET", "k", 1), ("TOUCH", "k")], 1, False),
        # A replica publishes.
        ([("PUBLISH", "c", "m"), ("INCR", "n")], 1, True),
        ([("EVAL", "…", 0)], 1, True),
    ],
)
def test_batch_counts_as_sent_unless_all_that_could_change_something_was_refused(
    commands: list[tuple[Any, ...]], refused: int, sent: bool
) -> None:
    call = Call(Config(), Journal([]), commands, batch=True)
    call.sent = True
    call.refused(refused, redis.ReadOnlyError())
    assert call.sent is sent


def test_transaction_that_was_refused_as_a_whole_counts_as_not_sent() -> None:
    call = Call(Config(), Journal([]), [("SET", "k", 1), ("INCR", "n")], batch=True)
    call.sent = True
    error = redis.ReadOnlyError()
    error.__context__ = ExecAbortError()
    call.refused(1, error)
    assert not call.sent


def away(cause: Exception) -> Away:
    error = Away("away since …")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("last", "sent", "kind", "told"),
    [
        (redis.TimeoutError("deadline passed"), False, Unavailable, "was answered READONLY"),
        (away(redis.TimeoutError("deadline passed")), False, Unavailable, "was answered READONLY"),
        (away(redis.ConnectionError("refused")), False, Unavailable, "away since"),
        (redis.TimeoutError("deadline passed"), True, OutcomeUnknown, "deadline passed"),
    ],
)
def test_attempt_that_meets_the_deadline_does_not_hide_that_those_before_were_refused(
    last: Exception, sent: bool, kind: type[Exception], told: str
) -> None:
    with deadline(0.1):
        call = Call(Config(), Journal([]), [("INCR", "n")])
    call.sent = True
    time.sleep(call.after(redis.ReadOnlyError()))
    call.sent = sent
    time.sleep(0.1)
    with pytest.raises(kind, match=told):
        call.after(last)
