"""A byte a value, whatever the values are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.drills.checkers import marks
from runbook.drills.checkers.marks import split

VALUES = st.one_of(
    st.builds("{}:{}".format, st.integers(0, 3), st.integers(0, 40)),
    st.builds("{}:{}".format, st.integers(0, 3), st.integers(0, 10**15)),
    st.sampled_from(["", ":", "0:", ":1", "0:01", "0:²", "0:٣", "0:-1", "a:b:7", "0: 1", "0:+1"]),
    st.text(max_size=6),
)


@given(st.lists(st.tuples(VALUES, st.sampled_from([1, 2, 4])), max_size=30))
def test_they_are_those_of_a_dict(added: list[tuple[str, int]]) -> None:
    found, model = marks.Marks(), dict[str, int]()
    for value, bits in added:
        assert found.add(value, bits) == model.get(value, 0)
        model[value] = model.get(value, 0) | bits
    assert {value: found[value] for value in model} == model
    assert found["nobody's"] == model.get("nobody's", 0)
    for bits in range(1, 8):
        assert sorted(found.having(bits)) == sorted(value for value, held in model.items() if held == bits)


def test_a_number_far_ahead_takes_no_room_and_is_found_when_the_others_have_come_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "_AHEAD", 100)
    found = marks.Marks()
    found.add("0:2000", 1)
    assert not found._rows
    for number in range(2001):
        found.add(f"0:{number}", 2)
    assert found["0:2000"] == 3
    assert [*found.having(1)] == []


def test_a_value_is_taken_apart_at_its_last_colon() -> None:
    assert [split(value) for value in ("3:7", "a:b:0", "7", "0:07")] == [("3", 7), ("a:b", 0), ("", -1), ("0", -1)]
