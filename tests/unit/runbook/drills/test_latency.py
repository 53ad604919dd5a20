"""The latency drill's judgement of histories written by hand."""

import dataclasses
import os

import pytest

from runbook.drills import latency
from runbook.drills.latency import judge_callers, judge_latency, latencies_ms, own_lateness_ms
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record
from runbook.load.noise import Noise, NoiseMeter

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

QUIET = Noise(idle_late_ms_p99=0.02, stolen=0.0, cpus_of_others=0.0)
MS = 1_000_000


def _call(number: int, took_ms: float, *, late_ms: float = 0.0, operation: str = "GET", worker: int = 0) -> Record:
    """A call that should start on the hundredth of a second that is its number."""
    intended_ns = number * 10 * MS
    sent_ns = intended_ns + round(late_ms * MS)
    return Record(worker, operation, "", intended_ns, sent_ns, sent_ns + round(took_ms * MS), Outcome.OK)


def _calls(*took_ms: float, late_ms: float = 0.0) -> History:
    return History(_call(number, took, late_ms=late_ms) for number, took in enumerate(took_ms))


def _failed(record: Record, error: str = "Unavailable: gone", outcome: Outcome = Outcome.FAIL) -> Record:
    return dataclasses.replace(record, outcome=outcome, error=error)


def _measured(finding: Finding) -> dict[str, object]:
    return {measurement.name: measurement.value for measurement in finding.measured}


class TestJudgingLatency:
    def test_calls_that_are_all_fast_pass(self) -> None:
        finding = judge_latency(_calls(*[0.2] * 2000), "GET", QUIET)
        assert (finding.verdict, finding.reason, finding.criterion) == (PASS, "", "P-2")
        assert _measured(finding)["GET p99"] == 0.2

    def test_a_few_slow_calls_beyond_the_99th_percentile_pass_and_show_in_the_maximum(self) -> None:
        finding = judge_latency(_calls(*[0.2] * 2998, 5, 5), "GET", QUIET)
        assert finding.verdict is PASS
        assert _measured(finding)["GET maximum"] == 5

    @pytest.mark.parametrize("noise", [Noise(9.0, 0.0), Noise(0.0, 0.5), Noise(0.0, 0.0, 0.9), Noise(0.0)])
    def test_calls_that_are_fast_in_spite_of_a_noisy_host_pass(self, noise: Noise) -> None:
        assert judge_latency(_calls(*[0.2] * 2000), "GET", noise).verdict is PASS

    def test_slow_calls_on_a_quiet_host_fail_with_their_interval(self) -> None:
        finding = judge_latency(_calls(*[2.5] * 2000), "GET", QUIET)
        assert finding.verdict is FAIL
        assert finding.reason == "p99 of GET is 2.50 ms, 99 % confidence 2.50 to 2.50"

    def test_one_slow_call_in_twenty_fails(self) -> None:
        assert judge_latency(_calls(*[*[0.2] * 19, 3] * 100), "GET", QUIET).verdict is FAIL

    def test_exactly_the_limit_is_not_below_it(self) -> None:
        assert judge_latency(_calls(*[1.0] * 2000), "GET", QUIET).verdict is FAIL

    def test_a_stall_counts_for_every_call_that_it_held_up(self) -> None:
        """One call of 500 ms makes the 49 behind it start late: a closed loop would have seen one slow call in 2,000."""
        stall = [Record(0, "GET", "", n * 10 * MS, 500 * MS, 500 * MS + n + 1, Outcome.OK) for n in range(50)]
        finding = judge_latency(History([*stall, *(_call(n, 0.2) for n in range(50, 2000))]), "GET", QUIET)
        assert finding.verdict is FAIL
        assert _measured(finding)["GET maximum"] == pytest.approx(500, rel=0.01)

    @pytest.mark.parametrize(
        ("noise", "doubt"),
        [
            (Noise(0.5, 0.0), "an idle thread woke 0.50 ms late at p99"),
            (Noise(0.02, 0.1), "the hypervisor took 10.0% of the CPU time"),
            (Noise(0.02, 0.0, 0.8), "other processes kept 0.8 CPUs busy"),
        ],
        ids=["idle thread late", "stolen CPU", "busy others"],
    )
    def test_slow_calls_on_a_noisy_host_are_inconclusive_and_say_what_was_noisy(self, noise: Noise, doubt: str) -> None:
        finding = judge_latency(_calls(*[2.5] * 2000), "GET", noise)
        assert finding.verdict is INCONCLUSIVE
        assert doubt in finding.reason
        assert "p99 of GET is 2.50 ms" in finding.reason

    def test_slow_calls_whose_sender_was_late_by_itself_are_inconclusive(self) -> None:
        finding = judge_latency(_calls(*[1.5] * 2000, late_ms=0.6), "GET", QUIET)
        assert finding.verdict is INCONCLUSIVE
        assert "our own sender was 0.60 ms late" in finding.reason

    def test_an_interval_across_the_limit_is_inconclusive(self) -> None:
        finding = judge_latency(_calls(*[0.2] * 1980, *[2.5] * 20), "GET", QUIET)
        assert finding.verdict is INCONCLUSIVE
        assert finding.reason.endswith("99 % confidence 0.20 to 2.50: the limit lies within")

    @pytest.mark.parametrize("count", [0, 1, 500, 999])
    def test_too_few_samples_are_inconclusive_however_fast(self, count: int) -> None:
        finding = judge_latency(_calls(*[0.1] * count), "GET", QUIET)
        assert finding.verdict is INCONCLUSIVE
        assert finding.reason == f"{count} samples are too few for p99: measure for longer"
        assert _measured(finding)["GET p99"] is None

    def test_with_the_fewest_samples_the_slowest_of_them_decides(self) -> None:
        """The interval of the 99th percentile of 1,000 samples reaches to the last one."""
        assert judge_latency(_calls(*[0.1] * 1000), "GET", QUIET).verdict is PASS
        assert judge_latency(_calls(*[0.1] * 999, 1.5), "GET", QUIET).verdict is INCONCLUSIVE

    @pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNKNOWN])
    def test_a_single_failed_call_fails_and_is_named(self, outcome: Outcome) -> None:
        calls = [*_calls(*[0.2] * 2000)]
        calls[7] = _failed(calls[7], "OutOfMemoryError: OOM command not allowed", outcome)
        calls[9] = _failed(calls[9], "Unavailable: later")
        finding = judge_latency(History(calls), "GET", QUIET)
        assert finding.verdict is FAIL
        assert finding.reason == "2 of 2000 GET failed, first: OutOfMemoryError: OOM command not allowed"

    def test_failures_fail_on_a_noisy_host_and_with_too_few_samples_too(self) -> None:
        assert judge_latency(History([_failed(_call(0, 0.2))]), "GET", Noise(9.0, 0.9)).verdict is FAIL

    def test_only_calls_of_the_named_operation_are_judged(self) -> None:
        calls = [_call(n, 0.2) for n in range(2000)] + [_failed(_call(n, 9, operation="SET")) for n in range(2000, 4000)]
        assert judge_latency(History(calls), "GET", QUIET).verdict is PASS
        assert judge_latency(History(calls), "SET", QUIET).verdict is FAIL
        assert judge_latency(History(calls), "PING", QUIET).verdict is INCONCLUSIVE

    def test_each_number_says_from_how_many_samples_it_was_taken(self) -> None:
        finding = judge_latency(_calls(*[0.2] * 2000), "GET", QUIET)
        first = finding.measured[0]
        assert (first.name, first.unit, first.samples, first.threshold) == ("GET p99", "ms", 2000, "< 1 ms")
        assert {"own sender late, p99", "idle thread late, p99"} <= set(_measured(finding))

    def test_a_percentile_that_too_few_samples_reach_stays_blank(self) -> None:
        measured = _measured(judge_latency(_calls(*[0.2] * 2000), "GET", QUIET))
        assert measured["GET p90"] == 0.2
        assert measured["GET p99.9"] is None


class TestNoise:
    @pytest.mark.parametrize("noise", [Noise(0.0, 0.0, 0.0), Noise(0.25, 0.02, 0.5), Noise(0.1), Noise(0.1, None, None)])
    def test_a_host_within_the_limits_leaves_no_doubt(self, noise: Noise) -> None:
        assert noise.doubts == ()

    @pytest.mark.parametrize(
        ("noise", "count"),
        [(Noise(0.26, 0.0, 0.0), 1), (Noise(0.0, 0.021), 1), (Noise(0.0, 0.0, 0.51), 1), (Noise(0.26), 1), (Noise(3, 0.5, 0.6), 3)],
    )
    def test_each_limit_that_is_exceeded_is_a_doubt_with_its_number(self, noise: Noise, count: int) -> None:
        assert len(noise.doubts) == count
        assert all("limit" in doubt for doubt in noise.doubts)

    def test_the_meter_reads_this_host(self) -> None:
        meter = NoiseMeter()
        meter.nap(1000)
        noise = meter.read()
        assert noise.idle_late_ms_p99 > 0
        assert 0 <= (noise.stolen or 0) <= 1
        assert 0 <= (noise.cpus_of_others or 0) <= 1.1 * (os.cpu_count() or 1)  # two clocks, read one after the other


class TestOwnLateness:
    def test_a_sender_on_time_is_not_late(self) -> None:
        assert own_lateness_ms(_calls(0.2, 0.2, 0.2)) == [0, 0, 0]

    def test_a_sender_that_woke_late_is_late_by_that(self) -> None:
        assert own_lateness_ms(_calls(0.2, 0.2, late_ms=0.5)) == pytest.approx([0.5, 0.5])

    def test_what_a_slow_reply_held_up_is_not_the_senders_fault(self) -> None:
        """The second call could be sent only when the first was answered, 40 ms after its moment."""
        held_up = Record(0, "GET", "", 10 * MS, round(50.1 * MS), 51 * MS, Outcome.OK)
        assert own_lateness_ms(History([_call(0, 50), held_up])) == pytest.approx([0, 0.1])

    def test_lateness_is_told_in_ascending_order(self) -> None:
        history = History([_call(0, 0.2, late_ms=3), _call(1, 0.2, late_ms=1), _call(2, 0.2, late_ms=2)])
        assert own_lateness_ms(history) == pytest.approx([1, 2, 3])

    def test_without_calls_nobody_was_late(self) -> None:
        assert own_lateness_ms(History([])) == []


class TestLatencies:
    def test_they_run_from_the_intended_start_in_ascending_order(self) -> None:
        history = History([_call(0, 3), _call(1, 0.5, late_ms=1), _call(2, 2)])
        assert latencies_ms(history, "GET") == pytest.approx([1.5, 2, 3])

    def test_failed_calls_and_other_operations_have_none(self) -> None:
        history = History([_failed(_call(0, 3)), _call(1, 1, operation="SET"), _call(2, 2)])
        assert latencies_ms(history, "GET") == pytest.approx([2])

    def test_a_result_tells_those_of_its_history(self) -> None:
        result = latency.Result(100, 7, _calls(0.2, 0.1), QUIET, ())
        assert result.latencies_ms("GET") == pytest.approx([0.1, 0.2])
        assert list(result.histories) == ["7-callers"]


class TestJudgingCallers:
    CALLERS = 3

    def _served(self, rounds: int = 400) -> list[Record]:
        return [_call(n, 0.3, worker=n % self.CALLERS, operation="SET") for n in range(rounds * self.CALLERS)]

    def test_callers_that_are_all_connected_and_served_pass(self) -> None:
        finding = judge_callers(History(self._served()), self.CALLERS, busy=3)
        assert (finding.verdict, finding.criterion, finding.reason) == (PASS, "P-1", "")
        assert _measured(finding)["callers served"] == 3
        assert _measured(finding)["p99 of all calls"] == 0.3

    @pytest.mark.parametrize("busy", [0, 2, 4])
    def test_another_number_of_connections_than_callers_fails(self, busy: int) -> None:
        finding = judge_callers(History(self._served()), self.CALLERS, busy)
        assert finding.verdict is FAIL
        assert finding.reason == f"the server saw {busy} of 3 connections at once"

    @pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNKNOWN])
    def test_a_single_failed_call_fails_and_is_named(self, outcome: Outcome) -> None:
        calls = self._served()
        calls[5] = _failed(calls[5], "PoolExhausted: all 3 connections", outcome)
        finding = judge_callers(History(calls), self.CALLERS, busy=3)
        assert finding.verdict is FAIL
        assert finding.reason == "1 of 1200 calls failed, first: PoolExhausted: all 3 connections"

    def test_a_caller_without_a_turn_is_inconclusive(self) -> None:
        calls = [record for record in self._served() if record.worker != 1]
        finding = judge_callers(History(calls), self.CALLERS, busy=3)
        assert finding.verdict is INCONCLUSIVE
        assert finding.reason == "only 2 of 3 callers had a turn: measure for longer"

    def test_no_calls_at_all_are_inconclusive(self) -> None:
        assert judge_callers(History([]), self.CALLERS, busy=3).verdict is INCONCLUSIVE
