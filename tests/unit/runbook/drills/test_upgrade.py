"""What is said of an engine that was started on the files of another one."""

from dataclasses import replace
from typing import Any

import pytest

from runbook.drills.backups.crossing import BASE, COMMANDS, SNAPSHOT, Crossing, State
from runbook.drills.upgrade import CHANGED_CLAIM, judge_back, judge_control, judge_refused, judge_up, version_of
from runbook.evidence import Verdict, verdict_of
from runbook.targets import Engine

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
STATE = State("values", "expiries", "42")
LOADED = Crossing(STATE, STATE)
REFUSED = Crossing(STATE, None, said="Wrong signature", reloaded=STATE)
CHANGES = [{"values": "another"}, {"expiries": "another"}, {"functions": "Function not found"}]


class TestUpgrade:
    def test_the_same_state_in_each_format_passes(self) -> None:
        assert judge_up({BASE: LOADED, SNAPSHOT: LOADED}).verdict is PASS

    @pytest.mark.parametrize("change", CHANGES)
    def test_another_state_in_one_format_fails_and_says_what_is_another(self, change: dict[str, str]) -> None:
        finding = judge_up({BASE: LOADED, SNAPSHOT: Crossing(STATE, replace(STATE, **change))})
        assert (finding.verdict, finding.reason) == (FAIL, f"snapshot: loaded with other {next(iter(change))}")

    def test_a_refusal_fails(self) -> None:
        finding = judge_up({BASE: REFUSED})
        assert (finding.verdict, finding.reason) == (FAIL, f"{BASE}: refused: Wrong signature")

    def test_nothing_tried_proves_nothing(self) -> None:
        assert judge_up({}).verdict is judge_refused({}).verdict is INCONCLUSIVE


class TestRefusal:
    def test_one_in_words_that_leaves_the_files_as_they_are_passes(self) -> None:
        assert judge_refused({BASE: REFUSED}).verdict is PASS

    def test_to_load_all_of_it_passes_too(self) -> None:
        assert judge_refused({BASE: LOADED}).verdict is PASS

    @pytest.mark.parametrize(
        ("crossing", "reason"),
        [
            (Crossing(STATE, replace(STATE, values="nothing")), "loaded with other values"),
            (replace(REFUSED, touched=True), "it changed the files that it refused"),
            (replace(REFUSED, reloaded=None), "the engine that wrote them does not load them any more"),
            (replace(REFUSED, reloaded=replace(STATE, values="less")), "the engine that wrote them then loads them with other values"),
        ],
        ids=["a silent start on less", "files touched", "lost to the newer", "changed for the newer"],
    )
    def test_whatever_does_harm_fails(self, crossing: Crossing, reason: str) -> None:
        finding = judge_refused({SNAPSHOT: crossing})
        assert (finding.verdict, finding.reason) == (FAIL, f"snapshot: {reason}")


class TestWayBack:
    def test_all_of_it_passes(self) -> None:
        assert judge_back(LOADED).verdict is PASS

    @pytest.mark.parametrize("change", CHANGES)
    def test_to_load_it_as_something_else_is_no_refusal_and_weighs(self, change: dict[str, str]) -> None:
        finding = judge_back(Crossing(STATE, replace(STATE, **change)))
        assert (finding.verdict, finding.is_known) == (FAIL, False)
        assert finding.reason == f"{COMMANDS}: loaded with other {next(iter(change))}"

    @pytest.mark.parametrize("harm", [{"touched": True}, {"reloaded": None}, {"reloaded": replace(STATE, values="less")}])
    def test_a_refusal_that_does_harm_weighs(self, harm: dict[str, Any]) -> None:
        finding = judge_back(replace(REFUSED, **harm))
        assert (finding.verdict, finding.is_known) == (FAIL, False)
        assert finding.reason.startswith(f"{COMMANDS}: refused: Wrong signature; ")

    def test_a_refusal_fails_and_weighs_nothing_since_nobody_promises_otherwise(self) -> None:
        finding = judge_back(REFUSED)
        assert finding.verdict is FAIL
        assert finding.is_known
        assert verdict_of([finding, judge_up({BASE: LOADED})]) is PASS


class TestControl:
    def test_what_is_seen_passes_and_what_is_not_is_inconclusive(self) -> None:
        assert judge_control(CHANGED_CLAIM, Crossing(STATE, replace(STATE, values="less"))).verdict is PASS
        assert judge_control(CHANGED_CLAIM, LOADED).verdict is INCONCLUSIVE


def test_engines_are_ordered_by_number_and_not_by_letter() -> None:
    engines = [Engine("redis", version, "") for version in ("10.0.1", "7.0.15", "7.0.9")]
    assert [engine.version for engine in sorted(engines, key=version_of)] == ["7.0.9", "7.0.15", "10.0.1"]
