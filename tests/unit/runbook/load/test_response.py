"""What of a latency a server can answer for: not the time in which a process waited for a CPU."""

from runbook.load.cpu_clock import CpuClock
from runbook.load.recording import RESPONSE, Recorder, Recording
from runbook.load.response import Responses

MS = 1_000_000


class _Told(CpuClock):
    """A clock whose samples are given: when, how long the process had run, and how long it had waited, in ms."""

    def __init__(self, *samples: tuple[float, float, float]) -> None:
        super().__init__(None)
        for at_ms, ran_ms, waited_ms in samples:
            self._at_ns.append(round(at_ms * MS))
            self._ran_ns.append(round(ran_ms * MS))
            self._waited_ns.append(round(waited_ms * MS))


def _response_ms(
    clock: CpuClock, sender: CpuClock | None = None, server: CpuClock | None = None, *, took_ms: float = 5.0, in_turn: bool = False
) -> float:
    """Take a call that should have begun at 10 ms, and return its response time."""
    recorder = Recorder(50 * MS, 0)
    responses = Responses(recorder, clock, sender or _Told(), server)
    responses.add("GET", 10 * MS, round(took_ms * MS), round((10 + took_ms) * MS))
    responses.finish()
    (response_ms,) = Recording(recorder.slice_ns, recorder.finish()).histogram(RESPONSE)
    return response_ms


def test_a_call_without_clocks_took_as_long_as_it_did() -> None:
    assert _response_ms(_Told()) == 5.0
    assert _response_ms(_Told(), took_ms=0.1) == 0.1


def test_time_in_which_the_server_waited_for_its_core_is_taken_off() -> None:
    assert _response_ms(_Told((9.9, 100, 50), (15.1, 101, 54))) == 1.0


def test_time_in_which_our_sender_waited_is_taken_off_as_well() -> None:
    waiting = _Told((9.9, 100, 50), (15.1, 101, 52))
    assert _response_ms(_Told(), sender=waiting) == 3.0
    assert _response_ms(waiting, sender=waiting) == 1.0


def test_time_in_which_the_server_ran_is_its_own() -> None:
    assert _response_ms(_Told((9.9, 100, 50), (15.1, 105, 50))) == 5.0


def test_waiting_before_and_after_the_call_is_not_taken_off() -> None:
    assert _response_ms(_Told((1, 0, 0), (9.9, 1, 8), (15.1, 2, 8), (30, 3, 20))) == 5.0


def test_a_control_that_was_slow_while_the_server_had_the_core_was_not_slow() -> None:
    """Otherwise a server that computes would make its control slow, and so excuse itself."""
    busy, idle = _Told((9.9, 100, 0), (15.1, 104, 0)), _Told((9.9, 100, 0), (15.1, 101, 0))
    assert _response_ms(_Told(), server=busy) < 1.0
    assert _response_ms(_Told(), server=idle) == 5.0
