"""The latency drill's judgement of loads written by hand."""

import dataclasses

import pytest

from runbook.drills.latency import CLIENT_CLAIM, excused, judge_client, judge_latency
from runbook.evidence import Finding, Verdict
from runbook.load.estimates import contradicts_little, estimated
from runbook.load.noise import Noise
from runbook.load.offered import Mark
from runbook.load.open_loop import UNSENT
from tests.unit.runbook.drills.loads import offered

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

QUIET = Noise(idle_late_ms_p99=0.02, stolen=0.0, cpus_of_others=0.0)


def _measured(finding: Finding) -> dict[str, object]:
    return {measurement.name: measurement.value for measurement in finding.measured}


def test_calls_that_are_all_fast_pass() -> None:
    finding = judge_latency(offered(*[0.2] * 2000), "GET", QUIET)
    assert (finding.verdict, finding.reason, finding.criterion) == (PASS, "", "P-2")
    assert _measured(finding)["GET p99"] == 0.2


def test_a_few_slow_calls_beyond_the_99th_percentile_pass_and_show_in_the_maximum() -> None:
    finding = judge_latency(offered(*[0.2] * 2998, 5, 5), "GET", QUIET)
    assert finding.verdict is PASS
    assert _measured(finding)["GET maximum"] == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize("noise", [Noise(9.0, 0.0), Noise(0.0, 0.5), Noise(0.0, 0.0, 0.9), Noise(0.0)])
def test_calls_that_are_fast_in_spite_of_a_noisy_host_pass(noise: Noise) -> None:
    assert judge_latency(offered(*[0.2] * 2000), "GET", noise).verdict is PASS


def test_slow_calls_on_a_quiet_host_fail_with_their_interval() -> None:
    finding = judge_latency(offered(*[2.5] * 2000), "GET", QUIET)
    assert finding.verdict is FAIL
    assert finding.reason == "p99 of GET is 2.50 ms, 99 % confidence 2.50 to 2.50"


def test_one_slow_call_in_twenty_fails() -> None:
    assert judge_latency(offered(*[*[0.2] * 19, 3] * 100), "GET", QUIET).verdict is FAIL


def test_exactly_the_limit_is_not_below_it() -> None:
    assert judge_latency(offered(*[1.0] * 2000), "GET", QUIET).verdict is FAIL


@pytest.mark.parametrize(
    ("noise", "doubt"),
    [
        (Noise(0.5, 0.0), "an idle thread woke 0.50 ms late at p99"),
        (Noise(0.02, 0.1), "the hypervisor took 10.0% of the CPU time"),
        (Noise(0.02, 0.0, 0.8), "other processes kept 0.8 CPUs busy"),
    ],
    ids=["idle thread late", "stolen CPU", "busy others"],
)
def test_slow_calls_on_a_noisy_host_are_inconclusive_and_say_what_was_noisy(noise: Noise, doubt: str) -> None:
    finding = judge_latency(offered(*[2.5] * 2000), "GET", noise)
    assert finding.verdict is INCONCLUSIVE
    assert doubt in finding.reason
    assert "p99 of GET is 2.50 ms" in finding.reason


def test_slow_calls_whose_sender_was_late_by_itself_are_inconclusive() -> None:
    finding = judge_latency(offered(*[1.5] * 2000, late_ms=0.6), "GET", QUIET)
    assert finding.verdict is INCONCLUSIVE
    assert "our own sender was 0.60 ms late" in finding.reason


def test_an_interval_across_the_limit_is_inconclusive() -> None:
    finding = judge_latency(offered(*[0.2] * 1980, *[2.5] * 20), "GET", QUIET)
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason.endswith("99 % confidence 0.20 to 2.50: the limit lies within")


def test_slow_calls_of_one_stall_are_not_taken_for_independent_ones() -> None:
    """Order statistics alone would put the 99th percentile above the limit: but it was one event in twenty seconds."""
    finding = judge_latency(offered(*[0.2] * 1000, *[3.0] * 30, *[0.2] * 970), "GET", QUIET)
    assert finding.verdict is INCONCLUSIVE
    assert "0.20 to 3.00: the limit lies within" in finding.reason


@pytest.mark.parametrize("count", [0, 1, 500, 999])
def test_too_few_samples_are_inconclusive_however_fast(count: int) -> None:
    finding = judge_latency(offered(*[0.1] * count), "GET", QUIET)
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason == f"{count} samples are too few for p99: measure for longer"
    assert _measured(finding)["GET p99"] is None


def test_with_the_fewest_samples_the_slowest_of_them_decides() -> None:
    """The interval of the 99th percentile of 1,000 samples reaches to the last one."""
    assert judge_latency(offered(*[0.1] * 1000), "GET", QUIET).verdict is PASS
    assert judge_latency(offered(*[0.1] * 999, 1.5), "GET", QUIET).verdict is INCONCLUSIVE


def test_a_single_failed_call_fails_and_is_named() -> None:
    finding = judge_latency(offered(*[0.2] * 1998, errors={("GET", "error OOM command not allowed"): 2}), "GET", QUIET)
    assert finding.verdict is FAIL
    assert finding.reason == "2 of 2000 GET failed, first: error OOM command not allowed"


def test_failures_fail_on_a_noisy_host_and_with_too_few_samples_too() -> None:
    assert judge_latency(offered(errors={("GET", "connection lost"): 1}), "GET", Noise(9.0, 0.9)).verdict is FAIL


def test_a_call_of_over_a_minute_fails() -> None:
    finding = judge_latency(offered(*[0.2] * 2000, 61_000), "GET", QUIET)
    assert finding.verdict is FAIL
    assert "a latency above 60 s" in finding.reason


def test_only_calls_of_the_named_operation_are_judged() -> None:
    load = offered(*[0.2] * 2000, errors={("SET", "connection lost"): 5})
    assert judge_latency(load, "GET", QUIET).verdict is PASS
    assert judge_latency(load, "SET", QUIET).verdict is FAIL
    assert judge_latency(load, "PING", QUIET).verdict is INCONCLUSIVE


def test_through_the_client_all_operations_are_judged_together() -> None:
    finding = judge_client(offered(*[0.2] * 2000, errors={("SET", "Unavailable: gone"): 1}), QUIET)
    assert (finding.verdict, finding.claim) == (FAIL, CLIENT_CLAIM)
    assert judge_client(offered(*[0.2] * 2000), QUIET).verdict is PASS


def test_seconds_in_which_the_host_stalled_are_left_out_and_counted() -> None:
    """The slow calls are those of the second second."""
    calls = [*[0.2] * 100, *[50.0] * 100, *[0.2] * 2000]
    assert judge_latency(offered(*calls), "GET", QUIET).verdict is not PASS
    finding = judge_latency(offered(*calls, stalled={1}), "GET", QUIET)
    assert finding.verdict is PASS
    assert _measured(finding)["left out, as the host stalled"] == 100


def test_a_call_that_failed_in_a_second_that_is_left_out_still_fails() -> None:
    finding = judge_latency(offered(*[0.2] * 2000, stalled=range(30), errors={("GET", "connection lost"): 1}), "GET", QUIET)
    assert finding.verdict is FAIL


def test_where_all_seconds_are_left_out_the_reason_says_so() -> None:
    finding = judge_latency(offered(*[0.2] * 2000, stalled=range(30)), "GET", QUIET)
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason.endswith("the host stalled during 2000 of 2000 calls")


def test_a_run_that_contradicts_littles_law_is_inconclusive_however_fast() -> None:
    load = offered(*[0.5] * 2000)
    assert contradicts_little(load) == ""
    missing = dataclasses.replace(load, recording=dataclasses.replace(load.recording, under_way=0.1))
    finding = judge_latency(missing, "GET", QUIET)
    assert finding.verdict is INCONCLUSIVE
    assert "0.100 calls were under way on average, and by Little's law it should be 0.050" in finding.reason


def test_each_number_says_from_how_many_samples_it_was_taken() -> None:
    finding = judge_latency(offered(*[0.2] * 2000), "GET", QUIET)
    first = finding.measured[0]
    assert (first.name, first.unit, first.samples, first.threshold) == ("GET p99", "ms", 2000, "< 1 ms")
    assert {"own sender late, p99", "idle thread late, p99", "99 % confidence of p99"} <= set(_measured(finding))


def test_a_percentile_that_too_few_samples_reach_stays_blank() -> None:
    measured = _measured(judge_latency(offered(*[0.2] * 2000), "GET", QUIET))
    assert measured["GET p90"] == 0.2
    assert measured["GET p99.9"] is None


def test_the_interval_is_the_wider_one_of_both_ways() -> None:
    """Slow calls in one stall: order statistics see thirty of them, the bootstrap sees one slice or none."""
    found = estimated(offered(*[0.2] * 1000, *[3.0] * 30, *[0.2] * 970), "GET", 0.99)
    assert found is not None
    assert found.low == pytest.approx(0.2)
    assert found.high == pytest.approx(3.0, rel=1e-3)


OVERSLEPT = [(5_200_000_000, 30_000_000)]


@pytest.mark.parametrize("server_busy", [None, 0.0, 0.3])
def test_a_second_in_which_the_host_stalled_is_excused(server_busy: float | None) -> None:
    assert excused(OVERSLEPT, server_busy) == {5}


def test_no_second_is_excused_where_the_server_itself_kept_a_core_busy() -> None:
    """A server that uses up the cores would keep the canary from waking, and be excused for it."""
    assert excused(OVERSLEPT, 0.9) == frozenset()


def test_a_second_in_which_the_server_had_forked_is_not_excused() -> None:
    """A rewrite of its file keeps a core busy, and the canary from waking: that is the server's own doing."""
    rewriting = Mark(4_900_000_000, 500_000_000, "rewrite of the AOF")
    assert excused(OVERSLEPT, 0.1, [rewriting]) == frozenset()
    assert excused(OVERSLEPT, 0.1, [Mark(4_900_000_000, 500_000_000, "GET took 9.0 ms (slow log)")]) == {5}


def test_connections_that_were_closed_fail_though_the_rest_is_fast() -> None:
    load = offered(*[0.2] * 2000)
    finding = judge_latency(dataclasses.replace(load, recording=dataclasses.replace(load.recording, lost=9)), "GET", QUIET)
    assert (finding.verdict, finding.reason) == (FAIL, "9 connections were closed under load")


def test_a_reply_that_nobody_asked_for_fails_every_operation() -> None:
    load = offered(*[0.2] * 2000, errors={("", "a reply that nobody had asked for"): 1})
    assert judge_latency(load, "GET", QUIET).verdict is FAIL


def test_calls_that_were_never_sent_fail_unless_it_was_our_own_sender() -> None:
    unsent = {("GET", UNSENT): 500}
    assert judge_latency(offered(*[0.2] * 2000, errors=unsent), "GET", QUIET).verdict is FAIL
    finding = judge_latency(offered(*[0.2] * 2000, late_ms=5.0, errors=unsent), "GET", QUIET)
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason.startswith("500 GET were never sent; our own sender was 5.00 ms late")


def test_a_client_that_leaves_calls_out_contradicts_littles_law() -> None:
    """A hundred calls a second were to be made; half of them were."""
    half = offered(*[5.0] * 2000)
    slower = dataclasses.replace(half, description={**half.description, "rate_per_s": 200.0})
    assert "calls are missing" in contradicts_little(slower)
