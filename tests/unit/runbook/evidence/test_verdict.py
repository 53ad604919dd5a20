"""How verdicts are weighed, and what becomes of a check that crashes."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.evidence import Finding, Measurement, Verdict, combine, judge

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL


@pytest.mark.parametrize(
    ("verdicts", "heaviest"),
    [
        ([PASS], PASS),
        ([PASS, PASS], PASS),
        ([PASS, INCONCLUSIVE], INCONCLUSIVE),
        ([INCONCLUSIVE, PASS], INCONCLUSIVE),
        ([PASS, FAIL], FAIL),
        ([FAIL, INCONCLUSIVE], FAIL),
        ([INCONCLUSIVE, FAIL, PASS], FAIL),
    ],
)
def test_fail_outweighs_inconclusive_outweighs_pass(verdicts: list[Verdict], heaviest: Verdict) -> None:
    assert combine(verdicts) is heaviest


def test_nothing_examined_is_inconclusive() -> None:
    assert combine([]) is INCONCLUSIVE


@given(st.lists(st.sampled_from(Verdict)))
def test_the_combination_passes_only_if_there_is_a_verdict_and_each_passes(verdicts: list[Verdict]) -> None:
    assert (combine(verdicts) is PASS) == (bool(verdicts) and set(verdicts) == {PASS})


@given(st.lists(st.sampled_from(Verdict), min_size=1), st.randoms())
def test_the_order_of_the_verdicts_does_not_matter(verdicts: list[Verdict], random: Random) -> None:
    shuffled = list(verdicts)
    random.shuffle(shuffled)
    assert combine(shuffled) is combine(verdicts)


def test_verdicts_can_be_combined_from_a_generator() -> None:
    assert combine(verdict for verdict in (PASS, FAIL)) is FAIL


@pytest.mark.parametrize("verdict", Verdict)
def test_judge_keeps_what_the_check_found(verdict: Verdict) -> None:
    measured = (Measurement("lost", 3, "writes", 100, "= 0"),)
    assert judge("I-4", "nothing is lost", lambda: (verdict, "three are", measured)) == Finding(
        "I-4", "nothing is lost", verdict, "three are", measured
    )


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), KeyError("aof_enabled"), AssertionError("seen"), StopIteration()])
def test_a_check_that_crashes_is_inconclusive_and_names_the_error(error: Exception) -> None:
    def crash() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        raise error

    finding = judge("I-4", "nothing is lost", crash)
    assert finding.verdict is INCONCLUSIVE
    assert finding.criterion == "I-4"
    assert finding.claim == "nothing is lost"
    assert type(error).__name__ in finding.reason
    assert str(error) in finding.reason


def test_a_check_that_returns_nonsense_is_inconclusive() -> None:
    assert judge("I-4", "nothing is lost", lambda: None).verdict is INCONCLUSIVE  # type: ignore[arg-type, return-value]


def test_an_interrupted_check_is_not_judged() -> None:
    def interrupt() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge("I-4", "nothing is lost", interrupt)


def test_a_verdict_is_written_as_its_name() -> None:
    assert [str(verdict) for verdict in Verdict] == ["PASS", "INCONCLUSIVE", "FAIL"]
