"""The judgement of latencies, on loads written by hand."""

import dataclasses

import pytest

from runbook.drills.latency import CLIENT_CLAIM, judge_client, judge_latency
from runbook.drills.sampling import LOOKS, sampled
from runbook.evidence import Finding, Verdict
from runbook.load.offered import Offered
from tests.unit.runbook.drills.loads import offered

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
DECIDING = "GET over 1 ms beyond the control"


def _measured(finding: Finding) -> dict[str, object]:
    return {measurement.name: measurement.value for measurement in finding.measured}


def test_fast_calls_pass_and_the_deciding_number_stands_first() -> None:
    finding = judge_latency(offered(*[0.2] * 2000), "GET", stolen=0.051)
    assert (finding.verdict, finding.reason, finding.criterion) == (PASS, "", "P-2")
    assert (finding.measured[0].name, finding.measured[0].value, finding.measured[0].threshold) == (DECIDING, 0.0, "< 1%")
    assert _measured(finding)["GET p99"] == 0.2
    assert _measured(finding)["control p99"] == 0.1
    assert _measured(finding)["CPU time taken by the hypervisor"] == 5.1


def test_a_server_that_is_slow_by_itself_fails() -> None:
    finding = judge_latency(offered(*[*[0.2] * 19, 3] * 100), "GET")
    assert finding.verdict is FAIL
    assert (
        finding.reason == "5.00% of GET took over 1 ms beyond the control, between 4.55% and 5.50% (limit 1%)"
        or "(limit 1%)" in finding.reason
    )
    assert _measured(finding)[DECIDING] == 5.0


def test_calls_that_are_as_slow_as_the_control_pass_however_slow() -> None:
    """A host that stalls one call in ten, of both."""
    times_ms = [*[0.2] * 9, 7.0] * 300
    finding = judge_latency(offered(*times_ms, control_ms=times_ms), "GET")
    assert finding.verdict is PASS
    assert _measured(finding)["GET p99"] == _measured(finding)["control p99"] == 7.0


def test_a_slow_server_on_a_host_that_stalls_fails() -> None:
    host_ms = [*[0.2] * 9, 7.0] * 300
    server_ms = [7.0 if number % 20 == 3 else time_ms for number, time_ms in enumerate(host_ms)]
    assert judge_latency(offered(*server_ms, control_ms=host_ms), "GET").verdict is FAIL


def test_a_few_slow_calls_of_the_server_alone_pass() -> None:
    assert judge_latency(offered(*[*[0.2] * 999, 2.0] * 4), "GET").verdict is PASS


def test_a_limit_that_lies_within_the_interval_is_inconclusive() -> None:
    finding = judge_latency(offered(*[0.2] * 1980, *[2.5] * 20), "GET")
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason.endswith("the limit of 1% lies within")


@pytest.mark.parametrize("count", [0, 1, 100, 174])
def test_too_few_calls_are_inconclusive(count: int) -> None:
    finding = judge_latency(offered(*[0.1] * count), "GET")
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason == f"{count} calls are too few: measure for at least 2 s"
    assert _measured(finding)[DECIDING] is None


def test_few_calls_that_were_all_fast_do_not_prove_one_in_a_hundred() -> None:
    assert judge_latency(offered(*[0.1] * 400), "GET").verdict is INCONCLUSIVE


def test_without_a_control_nothing_is_decided() -> None:
    load = offered(*[0.1] * 2000)
    bare = dataclasses.replace(load, recording=dataclasses.replace(load.recording, control=None))
    finding = judge_latency(bare, "GET")
    assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "there was no control")


def test_what_our_own_sender_was_late_counts_against_nobody() -> None:
    finding = judge_latency(offered(*[0.2] * 2000, late_ms=5.0), "GET")
    assert finding.verdict is PASS
    assert _measured(finding)["own sender late, p99"] == 5.0
    assert _measured(finding)["GET p99"] == 5.2


def test_a_single_failed_call_fails_and_is_named() -> None:
    finding = judge_latency(offered(*[0.2] * 1998, errors={("GET", "error OOM command not allowed"): 2}), "GET")
    assert finding.verdict is FAIL
    assert finding.reason == "2 of 2000 GET failed, first: error OOM command not allowed"


def test_calls_that_were_never_sent_fail_unless_the_control_has_them_too() -> None:
    unsent = {("GET", "not sent: no connection was free"): 3}
    assert judge_latency(offered(*[0.2] * 2000, errors=unsent), "GET").verdict is FAIL


def test_a_latency_beyond_what_can_be_counted_fails() -> None:
    finding = judge_latency(offered(*[0.2] * 2000, 61_000), "GET")
    assert finding.verdict is FAIL
    assert "a latency above 60 s" in finding.reason


def test_failures_of_one_operation_are_not_those_of_another() -> None:
    load = offered(*[0.2] * 2000, errors={("SET", "connection lost"): 5})
    assert judge_latency(load, "GET").verdict is PASS
    assert judge_latency(load, "SET").verdict is FAIL
    assert judge_latency(load, "PING").verdict is INCONCLUSIVE


def test_the_client_is_judged_by_all_of_its_calls() -> None:
    finding = judge_client(offered(*[0.2] * 2000, errors={("SET", "Unavailable: gone"): 1}))
    assert (finding.verdict, finding.claim) == (FAIL, CLIENT_CLAIM)
    assert judge_client(offered(*[0.2] * 2000)).verdict is PASS


class TestSampling:
    """A load is looked at three times at most, and ends as soon as it is decided."""

    @pytest.mark.parametrize(
        ("took_ms", "looks"),
        [([0.2] * 1000, 1), ([*[0.2] * 9, 3.0] * 100, 1), ([*[0.2] * 96, 3.0, *[0.2] * 3] * 3, 3)],
        ids=["passes at once", "fails at once", "stays open"],
    )
    def test_it_ends_once_every_finding_is_decided(self, took_ms: list[float], looks: int) -> None:
        seconds: list[float] = []

        def offer(for_s: float) -> Offered:
            seconds.append(for_s)
            return offered(*took_ms)

        made = sampled(offer, lambda load: [judge_latency(load, "GET")], 25.0)
        assert len(seconds) == looks
        assert sum(seconds) == pytest.approx(25.0 * LOOKS[looks - 1])
        assert made.recording.count() == looks * len(took_ms)
        assert made.recording.control is not None
        assert made.recording.control.count() == looks * len(took_ms)
