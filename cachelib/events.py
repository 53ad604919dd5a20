"""What happens to a client that is worth watching, and who is told: a logger by default, an application's own observer on request."""

import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

logger = logging.getLogger("cachelib")
logger.addHandler(logging.NullHandler())  # an application that configures no logging sees nothing


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one server; no field holds an argument of a command or another secret.

    Attributes:
        endpoint: of the server, as `host:port/db`.
    """

    level: ClassVar[int] = logging.WARNING
    endpoint: str


@dataclass(frozen=True, slots=True)
class Retried(Event):
    """An attempt failed, and the same call makes another one.

    Attributes:
        command: its name, without arguments.
        attempt: the number of the attempt that failed, from 1.
        wait_s: seconds until the next one.
        error: why it failed.
    """

    level: ClassVar[int] = logging.INFO
    command: str
    attempt: int
    wait_s: float
    error: str


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """The server is away: from now on one prober tries it, and every other caller waits.

    Attributes:
        error: of the first connection attempt that failed.
    """

    error: str


@dataclass(frozen=True, slots=True)
class ProbeFailed(Event):
    """The server is still away: the prober has tried it again.

    Attributes:
        attempt: the number of the connection attempt in this outage; the first one is told of by `Disconnected`.
        wait_s: seconds until the next one, if anybody still waits for it then.
        error: why it failed.
    """

    level: ClassVar[int] = logging.DEBUG
    attempt: int
    wait_s: float
    error: str


@dataclass(frozen=True, slots=True)
class Reconnected(Event):
    """The server is back.

    Attributes:
        away_s: seconds since the first failed connection attempt.
        attempts: connection attempts that failed.
    """

    away_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class OutcomeLost(Event):
    """A write was sent and its reply was lost: its caller gets `OutcomeUnknown`.

    Attributes:
        command: its name, without arguments.
        waited_s: seconds from the call's start.
        error: why the reply was lost.
    """

    level: ClassVar[int] = logging.ERROR
    command: str
    waited_s: float
    error: str


@dataclass(frozen=True, slots=True)
class SlowCall(Event):
    """A call succeeded, and took longer than `REDIS_SLOW_CALL_S`.

    Attributes:
        command: its name, without arguments.
        duration_s: seconds that it took, waiting for a connection included.
    """

    command: str
    duration_s: float


Observer = Callable[[Event], None]


class LogEvents:
    """Logs events to the logger `cachelib`; their fields are attributes of the record, for a structured formatter.

    A sick server makes thousands of the same: of one kind at most so many a second are logged, and then how many were not.

    Args:
        most_per_s: lines a second of one kind of event.
    """

    def __init__(self, most_per_s: int = 5) -> None:
        self._most_per_s = most_per_s
        self._windows: dict[type[Event], tuple[float, int]] = {}

    def __call__(self, event: Event) -> None:
        """Log one event."""
        kind, now_s = type(event), time.monotonic()
        began_s, count = self._windows.get(kind, (now_s, 0))
        if now_s - began_s >= 1.0:
            if count > self._most_per_s:
                logger.log(event.level, "%s: %d more were not logged", kind.__name__, count - self._most_per_s)
            began_s, count = now_s, 0
        self._windows[kind] = (began_s, count + 1)
        if count < self._most_per_s:
            fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
            text = ", ".join(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in fields.items())
            logger.log(event.level, "%s: %s", kind.__name__, text, extra={"event": kind.__name__, **fields})


class Journal:
    """Counts events and hands them to the observers of one client.

    Args:
        observers: each is called in the thread in which the event happens, and should be quick. What it raises is logged, and harms no
            call. None logs.
    """

    def __init__(self, observers: Sequence[Observer] | None = None) -> None:
        self._observers = (LogEvents(),) if observers is None else tuple(observers)
        self._counts: Counter[type[Event]] = Counter()
        self.renew()

    def renew(self) -> None:
        """Take a new lock, as in a forked child: a thread that held the old one is not there."""
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        """Count an event and hand it on."""
        with self._lock:
            self._counts[type(event)] += 1
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer of cachelib failed on %s", type(event).__name__)

    def count(self, kind: type[Event]) -> int:
        """Return how many events of one kind there were."""
        return self._counts[kind]
