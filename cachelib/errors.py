"""What can go wrong, as one tree; each error also derives from the redis-py error it stands for.

CacheError                  redis.RedisError
├── ConfigError             ValueError
├── Unavailable             redis.ConnectionError, redis.TimeoutError
│   └── PoolExhausted
├── Refused                 redis.AuthenticationError
└── OutcomeUnknown          deliberately neither ConnectionError nor TimeoutError

`except redis.RedisError` catches all of them. `OutcomeUnknown` stays outside redis-py's connection errors so that a generic "retry on
ConnectionError" wrapped around our client can't apply a write twice.
"""

from collections.abc import Sequence
from datetime import datetime

import redis


class CacheError(redis.RedisError):
    """Any error that this package raises itself."""


class ConfigError(CacheError, ValueError):
    """The configuration is invalid; `problems` names every fault at once.

    Args:
        problems: one sentence for each fault, none of which holds a secret.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count > 1 else ''} in the Redis configuration:{lines}")

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)  # an exception is pickled by its arguments, and ours is not its text


class Unavailable(CacheError, redis.ConnectionError, redis.TimeoutError):
    """The server did not serve the call within its deadline, and the call changed nothing.

    Args:
        message: says what to do.
        since: when the server was first missed, if the call has waited for its return.
    """

    def __init__(self, message: str = "", since: datetime | None = None) -> None:
        super().__init__(message)
        self.since = since

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, datetime | None]]:
        return type(self), (str(self), self.since)


class PoolExhausted(Unavailable):
    """Every connection of the pool stayed in use until the deadline."""


class Refused(CacheError, redis.AuthenticationError):
    """The server refused the login or the database: trying again can't help."""


class OutcomeUnknown(CacheError):
    """A write was sent and its reply was lost: it may or may not have been applied."""
