"""Events: they are counted and handed on, logged with their fields and not too often, and hold no argument of a command."""

import dataclasses
import itertools
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cachelib import CacheError, Config, Disconnected, Event, LogEvents, OutcomeLost, ProbeFailed, Reconnected, Retried, SlowCall
from cachelib.call import Call
from cachelib.events import Journal

WHERE = "127.0.0.1:6379/0"
RETRIED = Retried(WHERE, "GET", 2, 0.0123456, "reset by peer")
EVENTS = [
    (RETRIED, logging.INFO),
    (Disconnected(WHERE, "refused"), logging.WARNING),
    (ProbeFailed(WHERE, 2, 0.05, "refused"), logging.DEBUG),
    (Reconnected(WHERE, 1.5, 40), logging.WARNING),
    (OutcomeLost(WHERE, "INCR", 0.5, "closed"), logging.ERROR),
    (SlowCall(WHERE, "GET", 0.25), logging.WARNING),
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that LogEvents sees: its only item."""
    now_s = [1000.0]
    monkeypatch.setattr("cachelib.events.time.monotonic", lambda: now_s[0])
    return now_s


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What the logger `cachelib` was told."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("cachelib")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield records
    logger.setLevel(before)
    logger.removeHandler(handler)


# --- the journal ---


def test_journal_counts_each_kind_and_hands_every_event_to_every_observer() -> None:
    one: list[Event] = []
    other: list[Event] = []
    journal = Journal([one.append, other.append])
    told = [RETRIED, RETRIED, Disconnected(WHERE, "refused")]
    for event in told:
        journal.tell(event)
    assert one == other == told
    assert [journal.count(kind) for kind in (Retried, Disconnected, Reconnected)] == [2, 1, 0]


def test_observer_that_raises_harms_neither_the_caller_nor_the_next_observer(logged: list[logging.LogRecord]) -> None:
    seen: list[Event] = []

    def fail(event: Event) -> None:
        raise LookupError("the metrics are gone")

    journal = Journal([fail, seen.append])
    journal.tell(RETRIED)
    assert (seen, journal.count(Retried)) == ([RETRIED], 1)
    (record,) = logged
    assert record.getMessage() == "an observer of cachelib failed on Retried"
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError


def test_an_observer_may_ask_the_journal_that_told_it() -> None:
    counts: list[int] = []
    journal = Journal([lambda event: counts.append(journal.count(type(event)))])
    journal.tell(RETRIED)
    journal.tell(RETRIED)
    assert counts == [1, 2]


def test_journal_without_observers_logs_and_one_with_none_is_silent(logged: list[logging.LogRecord]) -> None:
    Journal([]).tell(RETRIED)
    assert not logged
    Journal().tell(RETRIED)
    assert len(logged) == 1


def test_journal_counts_exactly_under_many_threads() -> None:
    journal = Journal([])
    threads = [threading.Thread(target=lambda: [journal.tell(RETRIED) for _ in range(2_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.count(Retried) == 16_000


# --- the log ---


@pytest.mark.parametrize(("event", "level"), EVENTS, ids=lambda value: type(value).__name__ if isinstance(value, Event) else "")
def test_event_is_logged_with_its_fields_as_attributes_of_the_record(event: Any, level: int, logged: list[logging.LogRecord]) -> None:
    LogEvents()(event)
    (record,) = logged
    fields = dataclasses.asdict(event)
    assert (record.levelno, record.name, record.__dict__["event"]) == (level, "cachelib", type(event).__name__)
    assert {name: record.__dict__[name] for name in fields} == fields
    assert record.getMessage().startswith(f"{type(event).__name__}: endpoint={WHERE}, ")


def test_a_line_rounds_what_the_record_keeps(logged: list[logging.LogRecord]) -> None:
    LogEvents()(RETRIED)
    (record,) = logged
    assert record.getMessage() == f"Retried: endpoint={WHERE}, command=GET, attempt=2, wait_s=0.0123, error=reset by peer"
    assert record.__dict__["wait_s"] == 0.0123456


def test_a_percent_sign_in_an_error_is_text(logged: list[logging.LogRecord]) -> None:
    LogEvents()(Disconnected(WHERE, "100% %s %d gone"))
    assert logged[0].getMessage().endswith("error=100% %s %d gone")


def test_of_one_kind_at_most_so_many_a_second_are_logged_and_the_rest_is_told(clock: list[float], logged: list[logging.LogRecord]) -> None:
    log = LogEvents(most_per_s=3)
    for _ in range(1_000):
        log(RETRIED)
    assert len(logged) == 3
    clock[0] += 0.999
    log(RETRIED)
    assert len(logged) == 3
    clock[0] += 0.001
    log(RETRIED)
    assert [record.getMessage() for record in logged[3:]] == ["Retried: 998 more were not logged", logged[0].getMessage()]
    assert logged[3].levelno == logging.INFO


def test_exactly_as_many_as_allowed_leave_nothing_to_tell(clock: list[float], logged: list[logging.LogRecord]) -> None:
    log = LogEvents(most_per_s=3)
    for _ in range(4):
        for _ in range(3):
            log(RETRIED)
        clock[0] += 1.0
    assert {record.getMessage() for record in logged} == {logged[0].getMessage()}
    assert len(logged) == 12


def test_one_kind_does_not_use_up_the_lines_of_another(clock: list[float], logged: list[logging.LogRecord]) -> None:
    log = LogEvents(most_per_s=1)
    for event, _ in EVENTS * 10:
        log(event)
    assert [record.__dict__["event"] for record in logged] == [type(event).__name__ for event, _ in EVENTS]


# --- no secrets ---

SECRET = "hunter2"
COMMANDS: list[tuple[Any, ...]] = [
    ("SET", SECRET, SECRET),
    ("CONFIG SET", "requirepass", SECRET),
    ("CONFIG", "SET", "requirepass", SECRET),
    (f"CONFIG SET requirepass {SECRET}",),
    ("AUTH", SECRET),
    (f"AUTH {SECRET}",),
    ("ACL", "SETUSER", "bob", f">{SECRET}"),
    ("MIGRATE", "host", 1, "", 0, 1, "AUTH", SECRET),
    ("EVAL", SECRET, 0, SECRET),
    ("FCALL", SECRET, 0),
    (SECRET.encode(), SECRET),
]


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=lambda command: str(command[0]).split()[0])
@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "sent"])
def test_no_event_of_a_failing_call_holds_an_argument(command: tuple[Any, ...], sent: bool, logged: list[logging.LogRecord]) -> None:
    events: list[Event] = []
    call = Call(Config(deadline_s=0.05), Journal([events.append, LogEvents()]), [command])
    with pytest.raises(CacheError):  # noqa: PT012
        for _ in itertools.count():
            call.sent = sent
            call.after(redis.ConnectionError("reset by peer"))
    assert events or not sent
    assert SECRET not in repr(events).lower()
    assert SECRET not in " ".join(f"{record.getMessage()} {record.__dict__}" for record in logged).lower()


def test_events_are_frozen_and_say_where() -> None:
    for event, _ in EVENTS:
        assert event.endpoint == WHERE
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.endpoint = "elsewhere"  # type: ignore[misc]
