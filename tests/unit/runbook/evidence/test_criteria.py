"""The acceptance list is the story's."""

from runbook.evidence import CRITERIA
from runbook.evidence.criteria import BENCH, BY_TESTS, BY_WORD, OF_CONTAINERS

STORY = [
    *("AC-1", "AC-2", "AC-3", "AC-4", "AC-5", "AC-6", "AC-7", "AC-8"),
    *("U-1", "U-2", "U-3", "U-4"),
    *("I-1", "I-2", "I-3", "I-4", "I-5", "I-6"),
    *("P-1", "P-2"),
    *("D-1", "D-2", "D-3"),
]


def test_the_criteria_are_those_of_the_story_in_its_order() -> None:
    assert list(CRITERIA) == STORY


def test_each_criterion_has_a_text_of_its_own() -> None:
    assert all(CRITERIA.values())
    assert len(set(CRITERIA.values())) == len(CRITERIA)


def test_what_has_a_rule_of_its_own_is_a_criterion_and_a_benchmark_is_none() -> None:
    assert {BY_TESTS, BY_WORD, *OF_CONTAINERS} <= CRITERIA.keys()
    assert BENCH not in CRITERIA
