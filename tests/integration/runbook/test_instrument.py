"""The benchmark of the engine: that it passes ours, and finds engines that report what did not happen."""

import dataclasses
import os
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from runbook.drills.engine_bench import capacity, known_delays, lateness, memory, stall, start
from runbook.drills.engine_bench.part import Budget, Part, judge_figure, judge_values
from runbook.drills.paired_limit import Limit
from runbook.drills.stage import Stage
from runbook.evidence import Finding, Verdict
from runbook.load.offered import Offered
from runbook.load.placement import Placement, cores
from runbook.load.recording import LATE, LATENCY, SERVICE, Cell, Recording
from runbook.load.traffic import Traffic
from runbook.targets import Embedded

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
APART = pytest.mark.skipif(len(cores()) < 2, reason="to spin, the load needs a core of its own")
pytestmark = [pytest.mark.timeout(120), pytest.mark.measures, pytest.mark.nightly]

Distort = Callable[[Cell], Cell]


@dataclasses.dataclass(frozen=True, slots=True)
class WrongEngine(Stage):
    """Offers real loads, and reports something else."""

    distort: Distort = lambda cell: cell

    def offer(self, **more: Any) -> Offered:
        offered = Stage.offer(self, **more)
        return dataclasses.replace(offered, recording=self._distorted(offered.recording))

    def offer_to(self, *arguments: Any, **more: Any) -> Recording:
        return self._distorted(Stage.offer_to(self, *arguments, **more))

    def _distorted(self, made: Recording) -> Recording:
        return dataclasses.replace(made, cells=tuple(map(self.distort, made.cells)))


def later(us: int, *series: str, operation: str = "") -> Distort:
    """Add µs to every value of some series, of one operation or of all."""

    def distort(cell: Cell) -> Cell:
        if cell.series not in series or operation not in ("", cell.operation):
            return cell
        return cell._replace(values_us=array("I", [value + us for value in cell.values_us]))

    return distort


def from_the_send(cell: Cell) -> Cell:
    """Report the time from the send instead of the intended start."""
    return cell._replace(series={SERVICE: LATENCY, LATENCY: SERVICE}.get(cell.series, cell.series))


def without_slow_calls(cell: Cell) -> Cell:
    """Leave out calls of over 10 ms."""
    kept = [(us, count) for us, count in zip(cell.values_us, cell.counts, strict=True) if us < 10_000]
    return cell._replace(values_us=array("I", [us for us, _ in kept]), counts=array("Q", [count for _, count in kept]))


@pytest.fixture
def wrong(server: Embedded) -> Callable[[Distort], Stage]:
    placement = Placement(cores()[0], (cores()[-1],)) if len(cores()) > 1 else Placement()
    return lambda distort: WrongEngine(server.config, Traffic("bench:", {"PING": 1}), placement, server.pid, distort=distort)


@pytest.fixture
def right(wrong: Callable[[Distort], Stage]) -> Stage:
    return wrong(lambda cell: cell)


def found(rows: Part) -> list[Finding]:
    return [finding for _, finding in rows if finding]


def budget(claims: int) -> Budget:
    return Budget(12.0 * claims, claims)


@pytest.mark.parametrize(
    ("figure", "missing", "verdict"),
    [(400.0, 0, PASS), (380.0, 0, PASS), (379.0, 0, FAIL), (481.0, 0, FAIL), (400.0, 1, FAIL)],
    ids=["within", "at the edge", "too low", "too high", "a wrong reply"],
)
def test_a_figure_holds_within_its_bounds_and_with_right_replies_only(figure: float, missing: int, verdict: Verdict) -> None:
    finding = judge_figure("a claim", figure, "ms", (380.0, 480.0), "380 to 480 ms", missing)
    assert (finding.verdict, finding.claim, finding.criterion) == (verdict, "a claim", "bench")
    assert bool(finding.reason) is (verdict is not PASS)


def test_a_missing_reply_fails_however_good_the_ratio() -> None:
    assert judge_values("a claim", Limit("ratio", 0.9), [1.0] * 12, 0).verdict is PASS
    assert judge_values("a claim", Limit("ratio", 0.9), [1.0] * 12, 1).verdict is FAIL


def test_sampling_stops_at_the_first_look_that_decides_and_when_time_is_up() -> None:
    assert len(Budget(60.0, 1).sample(lambda number: [1.0], Limit("ratio", 0.9))) == 12
    assert len(Budget(0.0, 1).sample(lambda number: [1.0], Limit("ratio", 0.9))) == 1
    assert len(Budget(60.0, 1).sample(lambda number: [0.8, 1.0], Limit("ratio", 0.9))) == 60


class TestLateness:
    @APART
    @pytest.mark.parametrize("case", lateness.CASES, ids=lambda case: f"{case[0]}-{case[1]}")
    def test_an_engine_that_sends_late_fails(
        self, wrong: Callable[[Distort], Stage], case: tuple[int, str, float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lateness, "CASES", (case,))
        assert [each.verdict for each in found(lateness.lateness(wrong(later(200, LATE, LATENCY)), budget(1)))] == [FAIL]

    @APART
    def test_ours_does_not_fail(self, right: Stage) -> None:
        assert FAIL not in [each.verdict for each in found(lateness.lateness(right, Budget(9.0, 3)))]

    def test_without_a_core_of_its_own_the_load_cannot_spin_and_says_so(self, right: Stage) -> None:
        findings = found(lateness.lateness(dataclasses.replace(right, placement=Placement()), budget(1)))
        spinning = [(each.verdict, each.reason) for each in findings if "spinning" in each.claim]
        assert spinning == [(INCONCLUSIVE, "to spin, the load needs a core of its own")] * 2


class TestKnownDelays:
    @pytest.mark.parametrize(
        ("kind", "distort", "verdicts"),
        [
            ("uniform", later(1000, LATENCY, operation="PING"), [FAIL, PASS]),
            ("uniform", later(2000, LATENCY), [PASS, FAIL]),
            ("bimodal", without_slow_calls, [FAIL, PASS]),
        ],
        ids=["1 ms too long", "2 ms too long whatever it calls", "without slow calls"],
    )
    def test_an_engine_that_reports_other_delays_fails(
        self, wrong: Callable[[Distort], Stage], kind: str, distort: Distort, verdicts: list[Verdict], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(known_delays, "KINDS", (kind,))
        findings = found(known_delays.known_delays(wrong(distort), budget(1)))
        assert [each.verdict for each in findings] == verdicts, findings


class TestStall:
    def test_an_engine_that_counts_from_the_send_fails(
        self, wrong: Callable[[Distort], Stage], server: Embedded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nowhere")  # without redis-benchmark
        monkeypatch.setattr(stall, "LOAD_S", 3.0)
        (finding,) = found(stall.stall(wrong(from_the_send), server))
        assert finding.verdict is FAIL, finding

    def test_the_bounds_follow_from_the_real_length(self) -> None:
        assert stall.expected_p99_ms(stall.Stall(0.7, 0.72), 10.0) == pytest.approx((600.0, 720.0))


class TestStart:
    def test_ours_connects_about_as_fast_as_a_bare_loop(self, right: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(start, "MOST", 20_000_000)
        connects, served = found(start.start(right, budget(1)))
        assert connects.verdict is PASS, connects
        assert (served.verdict, "ulimit -n" in served.reason) == (INCONCLUSIVE, True)

    def test_an_engine_that_connects_slowly_fails(self, right: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """It makes its connections eight times."""
        honest = start.engine_connect_s
        monkeypatch.setattr(start, "engine_connect_s", lambda config: sum(honest(config) for _ in range(8)))
        monkeypatch.setattr(start, "MOST", 20_000_000)
        assert found(start.start(right, budget(1)))[0].verdict is FAIL


class TestCapacity:
    def test_without_redis_benchmark_there_is_nothing_to_hold_the_rate_against(self, right: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(os.environ, "PATH", "/nowhere")
        assert [each.verdict for each in found(capacity.capacity(right, budget(3)))] == [INCONCLUSIVE] * 3

    def test_an_engine_of_half_the_rate_fails(self, right: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(capacity, "LIMITS", {1: Limit("ratio of the rates", 0.95)})
        honest = capacity.intervals
        monkeypatch.setattr(capacity, "intervals", lambda *arguments: [_halved(pairs) for pairs in honest(*arguments)])
        assert [each.verdict for each in found(capacity.capacity(right, budget(1)))] == [FAIL]


def _halved(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(us, count // 2) for us, count in pairs]


def test_many_calls_take_little_memory(right: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MANY_CALLS", 500_000)
    (finding,) = found(memory.memory(right))
    assert finding.verdict in (PASS, INCONCLUSIVE)  # the host decides whether enough calls are made
    assert finding.measured == () or 0 < float(finding.measured[0].value or 0) < 200
