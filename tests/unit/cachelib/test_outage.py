"""An outage: since when, when the server is tried again, and that its waiting callers have one prober, whatever becomes of it."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from cachelib import Config, Disconnected, Event, ProbeFailed, Reconnected, deadline
from cachelib.call import Away, Call
from cachelib.events import Journal
from cachelib.outage import Gate, Outage
from tests.timing import end_of

pytestmark = pytest.mark.timeout(30)

CONFIG = Config(host="127.0.0.1", deadline_s=20.0)
REFUSED = redis.ConnectionError("refused")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that an Outage sees: its only item."""
    now_s = [1000.0]
    monkeypatch.setattr("cachelib.outage.time.monotonic", lambda: now_s[0])
    return now_s


# --- the bookkeeping ---


def test_outage_begins_with_the_first_failure_and_ends_with_over() -> None:
    outage = Outage(CONFIG)
    assert outage.since is None
    assert outage.over() is None
    before = datetime.now(UTC)
    assert outage.failed(REFUSED) == Disconnected("127.0.0.1:6379/0", "refused")
    since = outage.since
    assert since is not None
    assert since.utcoffset() == timedelta(0)
    assert before <= since <= datetime.now(UTC)
    told = [outage.failed(REFUSED) for _ in range(5)]
    assert [(type(event), event.attempt) for event in told if isinstance(event, ProbeFailed)] == [(ProbeFailed, n) for n in range(2, 7)]
    assert outage.since is since
    over = outage.over()
    assert isinstance(over, Reconnected)
    assert (over.attempts, outage.since) == (6, None)
    assert outage.over() is None


def test_waits_double_from_the_base_to_the_cap(clock: list[float]) -> None:
    outage, waits = Outage(CONFIG), []
    for _ in range(12):
        outage.failed(REFUSED)
        waits.append(outage.next_s - clock[0])
        clock[0] = outage.next_s
    bounds = [min(0.05, 0.001 * 2**number) for number in range(12)]
    assert all(0.8 * bound <= wait <= bound * 1.000001 for wait, bound in zip(waits, bounds, strict=True))


def test_endless_outage_overflows_nothing(clock: list[float]) -> None:
    outage = Outage(CONFIG)
    for _ in range(5_000):
        outage.failed(REFUSED)
    assert outage.next_s - clock[0] <= 0.05 * 1.000001


@pytest.mark.parametrize(("pause_s", "same"), [(0.9, True), (1.1, False)], ids=["returns soon", "returns later"])
def test_outage_that_returns_soon_goes_on_where_its_waits_were(pause_s: float, same: bool, clock: list[float]) -> None:
    outage = Outage(CONFIG)
    for _ in range(10):
        outage.failed(REFUSED)
    outage.over()
    clock[0] += pause_s
    assert isinstance(outage.failed(REFUSED), Disconnected)
    assert (outage.next_s - clock[0] >= 0.04) is same
    clock[0] += 0.5
    assert outage.over() == Reconnected("127.0.0.1:6379/0", pytest.approx(0.5), 1)


def test_away_says_since_when_how_long_how_often_and_why(clock: list[float]) -> None:
    outage = Outage(CONFIG)
    outage.failed(redis.ConnectionError("first"))
    assert "1 connection attempt:" in str(outage.away())
    clock[0] += 2.5
    last = redis.ConnectionError("last")
    outage.failed(last)
    away = outage.away()
    assert outage.since is not None
    assert str(away) == f"away since {outage.since.isoformat(timespec='milliseconds')}, for 2.5 s and 2 connection attempts: last"
    assert away.__cause__ is last


def test_attempt_that_ends_with_the_callers_time_hides_no_reason(clock: list[float]) -> None:
    outage, late = Outage(CONFIG), redis.TimeoutError("Timeout writing to socket")
    outage.failed(late, cut_short=True)
    assert outage.away().__cause__ is late
    outage.failed(REFUSED)
    outage.failed(late, cut_short=True)
    assert outage.away().__cause__ is REFUSED
    outage.over()
    outage.failed(late, cut_short=True)
    assert outage.away().__cause__ is late


# --- the gate ---


def call_of(config: Config = CONFIG) -> Call:
    return Call(config, Journal([]), [("GET", "k")])


class Caller:
    """A thread that waits at a gate; `outcome` is what came of it.

    Attributes:
        order: numbers of the callers that were let through, in order; shared by all callers of a test.
    """

    def __init__(self, gate: Gate, number: int, order: list[int], deadline_s: float | None = None) -> None:
        self.outcome: Any = None
        self.call: Call | None = None

        def wait() -> None:
            with deadline(deadline_s) if deadline_s else contextlib.nullcontext():
                self.call = call_of()
            try:
                gate.wait(self.call)
                self.outcome = "prober" if gate.probes(self.call) else "let through"
                order.append(number)
            except BaseException as error:
                self.outcome = error

        self.thread = threading.Thread(target=wait)
        self.thread.start()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate whose outage has begun, and which has no prober."""
    gate = Gate(CONFIG, Journal([]))
    first = call_of()
    gate.failed(first, REFUSED)
    gate.leave(first)
    yield gate
    gate.opened()  # so that no thread stays behind a failed test


@pytest.fixture
def line_up(gate: Gate, eventually: Any) -> Callable[[int], tuple[list[Caller], list[int]]]:
    """Let so many callers wait behind a prober, in order."""

    def line_up(count: int) -> tuple[list[Caller], list[int]]:
        order: list[int] = []
        callers = []
        for number in range(count):
            before = gate.waiting
            callers.append(Caller(gate, number, order))
            eventually(lambda before=before: gate.waiting == before + 1)
        return callers, order

    return line_up


def test_open_gate_lets_everybody_through() -> None:
    gate = Gate(CONFIG, Journal([]))
    assert not gate.closed
    gate.wait(call_of())
    gate.opened()
    gate.leave(call_of())
    assert (gate.closed, gate.waiting) == (False, 0)


def test_first_to_fail_is_the_prober_and_a_second_failure_changes_that_not() -> None:
    gate, first, second = Gate(CONFIG, Journal([])), call_of(), call_of()
    gate.failed(first, REFUSED)
    gate.failed(second, REFUSED)
    assert (gate.probes(first), gate.probes(second)) == (True, False)


def test_first_to_wait_is_the_prober_where_there_is_none(gate: Gate) -> None:
    call = call_of()
    gate.wait(call)
    assert gate.probes(call)


def test_prober_waits_until_the_server_may_be_tried_again() -> None:
    gate, call = Gate(Config(backoff_base_s=0.2, backoff_cap_s=0.2), Journal([])), call_of()
    gate.failed(call, REFUSED)
    end = end_of(lambda: gate.wait(call))
    assert end.took_s >= 0.15
    assert end.is_by(0.2)


def test_success_lets_all_through_and_a_later_caller_does_not_wait(gate: Gate, line_up: Any) -> None:
    prober = call_of()
    gate.wait(prober)
    callers, _ = line_up(20)
    gate.opened()
    for caller in callers:
        caller.thread.join()
    assert [caller.outcome for caller in callers] == ["let through"] * 20
    assert (gate.closed, gate.waiting, gate.probes(prober)) == (False, 0, False)


def test_part_of_the_prober_goes_to_the_longest_waiter_each_time(gate: Gate, line_up: Any, eventually: Any) -> None:
    prober = call_of()
    gate.wait(prober)
    callers, order = line_up(6)
    for number, caller in enumerate(callers):
        gate.leave(prober)
        eventually(lambda number=number: len(order) == number + 1)
        assert caller.outcome == "prober"
        assert caller.call is not None
        prober = caller.call
    assert order == list(range(6))


def test_leaving_without_the_part_changes_nothing(gate: Gate, line_up: Any) -> None:
    prober = call_of()
    gate.wait(prober)
    callers, order = line_up(2)
    gate.leave(call_of())
    gate.leave(callers[0].call)
    assert gate.probes(prober)
    assert (gate.waiting, order) == (2, [])


def test_caller_whose_deadline_passes_in_line_is_told_since_when(gate: Gate) -> None:
    gate.wait(call_of())
    with deadline(0.1):
        call = call_of()
    end = end_of(lambda: gate.wait(call))
    assert (end.kind, end.is_at(0.1)) == (Away, True)
    assert "away since 20" in str(end.outcome)
    assert call.since is not None
    assert gate.waiting == 0


@pytest.mark.parametrize(("deadline_s", "told"), [(0.01, "refused"), (20.0, "timed out")], ids=["at its deadline", "with time left"])
def test_timeout_of_a_prober_is_a_reason_only_if_it_has_time_left(deadline_s: float, told: str) -> None:
    gate, prober = Gate(CONFIG, Journal([])), call_of(Config(host="127.0.0.1", deadline_s=deadline_s))
    gate.failed(prober, REFUSED)
    time.sleep(0.02)
    gate.failed(prober, redis.TimeoutError("timed out"))
    with pytest.raises(Away, match=told):
        gate.wait(call_of(Config(host="127.0.0.1", deadline_s=0.01)))


def test_prober_without_the_time_for_another_attempt_hands_its_part_on(eventually: Any) -> None:
    """And may still be let through, if the next prober succeeds in time."""
    gate = Gate(Config(backoff_base_s=0.5, backoff_cap_s=0.5), Journal([]))
    with deadline(0.2):
        hasty = call_of()
    gate.failed(hasty, REFUSED)
    order: list[int] = []
    patient = Caller(gate, 1, order)
    eventually(lambda: gate.waiting == 1)
    with pytest.raises(Away):
        gate.wait(hasty)
    eventually(lambda: patient.outcome)
    assert patient.outcome == "prober"


def test_prober_whose_deadline_is_near_leaves_no_gap_behind_it() -> None:
    """It has nobody to hand its part to: the next to come takes it."""
    gate, call = Gate(Config(backoff_base_s=0.3, backoff_cap_s=0.3), Journal([])), call_of()
    with deadline(0.05):
        hasty = call_of()
    gate.failed(hasty, REFUSED)
    with pytest.raises(Away):
        gate.wait(hasty)
    gate.wait(call)
    assert gate.probes(call)


def test_callers_without_the_time_for_an_attempt_do_not_hand_its_part_around() -> None:
    """Each would give it to the other at once: two cores at full load until the first deadline."""
    gate = Gate(Config(backoff_base_s=60.0, backoff_cap_s=60.0), Journal([]))
    first = call_of()
    gate.failed(first, REFUSED)
    gate.leave(first)
    order: list[int] = []
    before_s = time.process_time()
    callers = [Caller(gate, number, order, deadline_s=0.6) for number in range(4)]
    for caller in callers:
        caller.thread.join()
    assert time.process_time() - before_s < 0.2
    assert {type(caller.outcome) for caller in callers} == {Away}


def test_waiter_that_failed_again_stays_the_only_prober(gate: Gate, line_up: Any) -> None:
    prober = call_of()
    gate.wait(prober)
    line_up(3)
    for _ in range(5):
        gate.failed(prober, REFUSED)
        gate.wait(prober)
    assert gate.probes(prober)
    assert gate.waiting == 3


def test_journal_is_told_once_of_an_outage_and_once_of_its_end() -> None:
    events: list[Event] = []
    gate, call = Gate(CONFIG, Journal([events.append])), call_of()
    for _ in range(3):
        gate.failed(call, REFUSED)
    gate.opened()
    gate.opened()
    assert [type(event) for event in events] == [Disconnected, ProbeFailed, ProbeFailed, Reconnected]


def test_an_observer_may_use_the_gate_that_told_it() -> None:
    """Such as one that sends its metrics to the same Redis."""
    seen: list[bool] = []
    gate = Gate(CONFIG, Journal([lambda event: seen.append(gate.closed) or gate.leave(call)]))
    call = call_of()
    gate.failed(call, REFUSED)
    gate.opened()
    assert seen == [True, False]


# --- Ctrl-C ---


@contextlib.contextmanager
def interrupted_once(ready: Callable[[], bool], eventually: Any) -> Iterator[None]:
    """Interrupt the main thread, the one that gets signals, as Ctrl-C does, once it is ready."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def watch() -> None:
        eventually(ready)
        time.sleep(0.02)  # it says so first, and waits then
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    helper = threading.Thread(target=watch)
    try:
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        helper.join()
        signal.signal(signal.SIGUSR1, before)


def test_interrupted_waiter_is_out_of_line(gate: Gate, line_up: Any, eventually: Any) -> None:
    prober = call_of()
    gate.wait(prober)
    with interrupted_once(lambda: gate.waiting == 1, eventually):
        gate.wait(call_of())
    assert gate.waiting == 0
    callers, _ = line_up(1)
    gate.leave(prober)
    eventually(lambda: callers[0].outcome)
    assert callers[0].outcome == "prober"


def test_part_of_an_interrupted_prober_goes_to_the_longest_waiter(line_up: Any, eventually: Any) -> None:
    """The prober leaves as the pool makes it leave: `wait` raises, and `leave` is called."""
    gate = Gate(Config(backoff_base_s=10.0, backoff_cap_s=10.0), Journal([]))
    prober, order = call_of(), []
    gate.failed(prober, REFUSED)
    callers = [Caller(gate, 0, order)]
    with interrupted_once(lambda: gate.waiting == 1, eventually):
        gate.wait(prober)
    gate.leave(prober)
    assert not gate.probes(prober)
    eventually(lambda: gate.waiting == 0)
    gate.failed(call_of(), REFUSED)
    gate.opened()
    callers[0].thread.join(15.0)
    assert callers[0].outcome in ("prober", "let through")
