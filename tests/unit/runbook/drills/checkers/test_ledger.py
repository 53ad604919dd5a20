"""Histories written by hand, one for each thing that the accounting must catch, and some that it must not accuse."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.drills.checkers import Account, account
from runbook.load import History, Outcome, Record

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN


def _append(value: str, sent_s: float, done_s: float | None = None, outcome: Outcome = OK) -> Record:
    """An append at a second; without a `done_s` it took a millisecond."""
    sent_ns = round(sent_s * 1e9)
    done_ns = sent_ns + 1_000_000 if done_s is None else round(done_s * 1e9)
    return Record(int(value.partition(":")[0]), "RPUSH", value, sent_ns, sent_ns, done_ns, outcome, "" if outcome is OK else "Error: gone")


def _account(records: list[Record], present: list[str], cut_s: float) -> Account:
    return account(History(records), present, [round(cut_s * 1e9)])


# One writer, an append a second, the server gone after the fourth: 0:0 to 0:3 before it, 0:4 and 0:5 after it.
SIX = [_append(f"0:{number}", number) for number in range(6)]
ALL = ["0:0", "0:1", "0:2", "0:3", "0:4", "0:5"]
CUT_S = 3.5


class TestClean:
    def test_a_ledger_that_holds_what_was_acknowledged_is_clean(self) -> None:
        found = _account(SIX, ALL, CUT_S)
        assert (found.lost, found.duplicated, found.phantom, found.out_of_order, found.holes, found.corrupt) == ((),) * 6
        assert (found.attempted, found.acknowledged, found.failed, found.unknown) == (6, 6, 0, 0)
        assert found.lost_window_s == 0

    def test_an_empty_history_accuses_nobody(self) -> None:
        found = _account([], [], 0)
        assert found.corrupt == ()
        assert (found.attempted, found.acknowledged) == (0, 0)

    @pytest.mark.parametrize("present", [ALL, ["0:0", "0:1", "0:2", "0:4", "0:5"]], ids=["applied", "not applied"])
    def test_an_append_of_unknown_outcome_may_be_there_or_not(self, present: list[str]) -> None:
        found = _account([*SIX[:3], _append("0:3", 3, outcome=UNKNOWN), *SIX[4:]], present, CUT_S)
        assert found.corrupt == ()
        assert found.lost == ()
        assert found.unknown == 1
        assert found.unknown_present == (len(present) == 6)

    def test_an_append_that_failed_and_is_absent_is_as_it_should_be(self) -> None:
        found = _account([*SIX[:3], _append("0:3", 3, outcome=FAIL), *SIX[4:]], ["0:0", "0:1", "0:2", "0:4", "0:5"], CUT_S)
        assert found.corrupt == ()
        assert (found.acknowledged, found.failed) == (5, 1)

    def test_writers_may_be_interleaved(self) -> None:
        records = [_append("0:0", 0), _append("1:0", 0.2), _append("1:1", 0.4), _append("0:1", 0.6)]
        assert _account(records, ["0:0", "1:0", "1:1", "0:1"], 5).corrupt == ()

    def test_an_append_that_waited_across_the_outage_makes_no_hole_of_what_was_lost_before_it(self) -> None:
        """Sent to the old server, answered by the new one: it is no proof that the old one kept what came later."""
        records = [*SIX[:3], _append("0:3", 3, done_s=3.2), _append("0:4", 3.3, done_s=6.0)]
        found = _account(records, ["0:0", "0:1", "0:2", "0:4"], CUT_S)
        assert found.lost == ("0:3",)
        assert found.holes == ()
        assert found.corrupt == ()

    def test_a_reply_that_was_in_flight_at_the_cut_is_the_end_of_the_tail(self) -> None:
        """The old server answered and died; its answer was read after the cut."""
        found = _account([*SIX[:3], _append("0:3", 3.4, done_s=3.6)], ["0:0", "0:1", "0:2"], CUT_S)
        assert found.lost == ("0:3",)
        assert found.holes == ()
        assert found.lost_window_s == 0

    def test_other_operations_are_not_accounted_for(self) -> None:
        ping = Record(0, "PING", "", 0, 0, 1, OK)
        assert _account([ping, *SIX], ALL, CUT_S).attempted == 6


class TestLoss:
    def test_the_tail_may_be_lost_and_its_window_is_told(self) -> None:
        found = _account(SIX, ["0:0", "0:1", "0:4", "0:5"], CUT_S)
        assert found.lost == ("0:2", "0:3")
        assert found.corrupt == ()
        assert found.lost_window_s == pytest.approx(1.0)  # from the second to the third second, when the last one was acknowledged

    def test_the_window_reaches_to_the_last_acknowledgement_of_any_writer(self) -> None:
        records = [_append("0:0", 0), _append("0:1", 1), _append("1:0", 3)]
        assert _account(records, ["0:0"], CUT_S).lost_window_s == pytest.approx(2.0)

    def test_all_may_be_lost(self) -> None:
        found = _account(SIX[:4], [], CUT_S)
        assert found.lost == ("0:0", "0:1", "0:2", "0:3")
        assert found.lost_window_s == pytest.approx(3.0)

    def test_losses_are_told_in_the_order_of_their_acknowledgement(self) -> None:
        records = [_append("1:0", 0, done_s=0.9), _append("0:0", 0.1, done_s=0.2)]
        assert _account(records, [], CUT_S).lost == ("0:0", "1:0")

    def test_a_hole_in_the_middle_is_not_the_tail(self) -> None:
        found = _account(SIX, ["0:0", "0:2", "0:3", "0:4", "0:5"], CUT_S)
        assert found.lost == found.holes == ("0:1",)
        assert found.corrupt == ("1 holes, first 0:1",)

    def test_the_first_append_of_all_can_be_a_hole(self) -> None:
        assert _account(SIX, ALL[1:], CUT_S).holes == ("0:0",)

    def test_a_loss_before_a_later_append_of_another_writer_that_survived_is_a_hole(self) -> None:
        """The file is one log: 1:0 was sent after 0:1 had been acknowledged, so it stands behind it."""
        records = [_append("0:0", 0), _append("0:1", 1), _append("1:0", 2)]
        found = _account(records, ["0:0", "1:0"], CUT_S)
        assert found.lost == ("0:1",)
        assert found.holes == ("0:1",)

    def test_a_survivor_that_took_long_does_not_hide_the_one_that_proves_the_hole(self) -> None:
        records = [_append("1:0", 0, done_s=3), _append("0:0", 1, done_s=1.5), _append("2:0", 2)]
        assert _account(records, ["1:0", "2:0"], CUT_S).holes == ("0:0",)

    def test_of_two_appends_under_way_at_the_same_time_either_may_be_the_tail(self) -> None:
        records = [_append("0:0", 1, done_s=1.5), _append("1:0", 1.2, done_s=2)]
        assert _account(records, ["1:0"], CUT_S).holes == ()
        assert _account(records, ["0:0"], CUT_S).holes == ()

    def test_the_loss_of_something_sent_after_the_cut_is_never_the_tail(self) -> None:
        found = _account(SIX, ALL[:5], CUT_S)
        assert found.lost == found.holes == ("0:5",)


class TestCorruption:
    def test_a_duplicate_is_caught_once(self) -> None:
        found = _account(SIX, [*ALL, "0:3", "0:3"], CUT_S)
        assert found.duplicated == ("0:3",)
        assert found.corrupt == ("1 duplicated, first 0:3",)

    def test_a_duplicate_of_an_unknown_outcome_is_a_duplicate(self) -> None:
        assert _account([_append("0:0", 0, outcome=UNKNOWN)], ["0:0", "0:0"], CUT_S).duplicated == ("0:0",)

    def test_a_phantom_that_is_there_twice_is_both(self) -> None:
        found = _account(SIX, [*ALL, "0:6", "0:6"], CUT_S)
        assert (found.phantom, found.duplicated) == (("0:6",), ("0:6",))

    def test_a_value_never_sent_is_a_phantom(self) -> None:
        assert _account(SIX, [*ALL, "0:6"], CUT_S).phantom == ("0:6",)

    def test_a_value_of_a_writer_that_there_is_not_is_a_phantom(self) -> None:
        assert _account(SIX, [*ALL, "9:0"], CUT_S).phantom == ("9:0",)

    @pytest.mark.parametrize("value", ["garbage", "", "0:", "0:x", "0:-1", "0:1.5", "0:²", "x" * 1000])
    def test_a_value_without_a_number_is_a_phantom_and_no_crash(self, value: str) -> None:
        found = _account(SIX, [*ALL[:3], value, *ALL[3:]], CUT_S)
        assert found.phantom == (value,)
        assert found.out_of_order == ()

    def test_an_append_that_certainly_failed_and_is_there_is_a_phantom(self) -> None:
        found = _account([*SIX[:3], _append("0:3", 3, outcome=FAIL)], ALL[:4], CUT_S)
        assert found.phantom == ("0:3",)

    def test_a_swap_is_out_of_order(self) -> None:
        found = _account(SIX, ["0:0", "0:2", "0:1", "0:3", "0:4", "0:5"], CUT_S)
        assert found.out_of_order == ("0:1",)
        assert found.lost == found.duplicated == found.phantom == ()

    def test_each_kind_is_named_with_its_count_and_its_first_example(self) -> None:
        found = _account(SIX, ["0:0", "0:3", "0:2", "0:2", "0:4", "0:5", "0:8", "0:9"], CUT_S)
        assert found.corrupt == (
            "1 duplicated, first 0:2",
            "2 phantom, first 0:8",
            "1 out of order, first 0:2",
            "1 holes, first 0:1",
        )


@st.composite
def clean_runs(draw: Callable[..., Any]) -> tuple[list[Record], list[str], int]:
    """A history of some writers that each wait for their reply, the ledger that it left, and the moment of the cut."""
    records, present = [], []
    for worker in range(draw(st.integers(1, 4))):
        free_ns = draw(st.integers(0, 50))
        for number in range(draw(st.integers(0, 12))):
            sent_ns = free_ns + draw(st.integers(0, 20))
            applied_ns = sent_ns + draw(st.integers(1, 20))
            free_ns = applied_ns + draw(st.integers(1, 20))
            outcome = draw(st.sampled_from([OK, OK, OK, OK, FAIL, UNKNOWN]))
            records.append(Record(worker, "RPUSH", f"{worker}:{number}", sent_ns, sent_ns, free_ns, outcome))
            if outcome is OK or (outcome is UNKNOWN and draw(st.booleans())):
                present.append((applied_ns, worker, f"{worker}:{number}"))
    return records, [value for _, _, value in sorted(present)], draw(st.integers(0, 500))


runs_with_a_loss_to_choose = clean_runs().filter(lambda run: any(record.outcome is OK for record in run[0]))


@given(clean_runs())
def test_in_a_clean_history_nothing_is_accused(run: tuple[list[Record], list[str], int]) -> None:
    records, present, cut_ns = run
    found = account(History(records), present, [cut_ns])
    assert found.corrupt == ()
    assert found.lost == ()
    assert found.lost_window_s == 0
    assert found.attempted == len(records) == found.acknowledged + found.failed + found.unknown


@given(clean_runs(), st.randoms())
def test_the_order_in_which_records_were_collected_does_not_matter(run: tuple[list[Record], list[str], int], random: Random) -> None:
    records, present, cut_ns = run
    shuffled = list(records)
    random.shuffle(shuffled)
    assert account(History(shuffled), present[:-1], [cut_ns]) == account(History(records), present[:-1], [cut_ns])


@given(clean_runs(), st.data())
def test_a_lost_suffix_of_the_log_is_counted_but_is_no_corruption(run: tuple[list[Record], list[str], int], data: st.DataObject) -> None:
    """What a power cut or a kill may do: the end of the file is missing, and nothing was sent afterwards."""
    records, present, _ = run
    cut_ns = max((record.done_ns for record in records), default=0) + 1
    kept = present[: data.draw(st.integers(0, len(present)))]
    found = account(History(records), kept, [cut_ns])
    assert found.corrupt == ()
    assert set(found.lost) == {record.value for record in records if record.outcome is OK} - set(kept)


@given(runs_with_a_loss_to_choose, st.data())
def test_any_lost_append_is_caught(run: tuple[list[Record], list[str], int], data: st.DataObject) -> None:
    records, present, cut_ns = run
    lost = data.draw(st.sampled_from([record for record in records if record.outcome is OK]))
    found = account(History(records), [value for value in present if value != lost.value], [cut_ns])
    assert found.lost == (lost.value,)
    survived_it = [r for r in records if r.outcome is OK and r.sent_ns >= lost.done_ns and r.done_ns < cut_ns]
    assert found.holes == ((lost.value,) if survived_it or lost.sent_ns >= cut_ns else ())


@given(runs_with_a_loss_to_choose, st.data())
def test_any_duplicate_is_caught_wherever_it_stands(run: tuple[list[Record], list[str], int], data: st.DataObject) -> None:
    records, present, cut_ns = run
    value = data.draw(st.sampled_from(present))
    present.insert(data.draw(st.integers(0, len(present))), value)
    assert account(History(records), present, [cut_ns]).duplicated == (value,)


@given(clean_runs(), st.data(), st.sampled_from(["7:0", "0:99", "nonsense"]))
def test_any_phantom_is_caught_wherever_it_stands(run: tuple[list[Record], list[str], int], data: st.DataObject, phantom: str) -> None:
    records, present, cut_ns = run
    present.insert(data.draw(st.integers(0, len(present))), phantom)
    assert account(History(records), present, [cut_ns]).phantom == (phantom,)


@given(clean_runs(), st.data())
def test_any_append_that_failed_and_is_there_is_caught(run: tuple[list[Record], list[str], int], data: st.DataObject) -> None:
    records, present, cut_ns = run
    if failed := [record.value for record in records if record.outcome is FAIL]:
        value = data.draw(st.sampled_from(failed))
        assert account(History(records), [*present, value], [cut_ns]).phantom == (value,)


@given(clean_runs(), st.data())
def test_any_swap_of_one_writer_is_caught(run: tuple[list[Record], list[str], int], data: st.DataObject) -> None:
    records, present, cut_ns = run
    places = [[at for at, value in enumerate(present) if value.startswith(f"{worker}:")] for worker in range(4)]
    if pairs := [(a, b) for own in places for a in own for b in own if a < b]:
        one, other = data.draw(st.sampled_from(pairs))
        present[one], present[other] = present[other], present[one]
        assert account(History(records), present, [cut_ns]).out_of_order


class TestSeveralOutages:
    """A writer, an append a second; the server is gone after the third and after the sixth of nine."""

    NINE = tuple(_append(f"0:{number}", number) for number in range(9))
    CUTS_NS = (2_500_000_000, 5_500_000_000)

    def account(self, *lost: int) -> Account:
        return account(History(self.NINE), [f"0:{number}" for number in range(9) if number not in lost], self.CUTS_NS)

    def test_a_log_that_kept_all_is_clean(self) -> None:
        found = self.account()
        assert (found.lost, found.corrupt, found.windows_s, found.lost_per_cut) == ((), (), (0, 0), (0, 0))

    def test_each_may_take_the_tail_of_what_its_server_wrote_and_has_a_window_of_its_own(self) -> None:
        found = self.account(2, 4, 5)
        assert found.corrupt == ()
        assert found.windows_s == (0.0, pytest.approx(1.0))
        assert found.lost_per_cut == (1, 2)
        assert found.lost_window_s == pytest.approx(1.0)

    def test_the_largest_window_is_told(self) -> None:
        found = self.account(0, 1, 2, 5)
        assert found.windows_s == (pytest.approx(2.0), 0.0)
        assert found.lost_window_s == pytest.approx(2.0)

    @pytest.mark.parametrize(("lost", "holes"), [((1,), ("0:1",)), ((4,), ("0:4",)), ((1, 5), ("0:1",)), ((2, 3), ("0:3",))])
    def test_a_loss_before_what_the_same_server_kept_is_a_hole(self, lost: tuple[int, ...], holes: tuple[str, ...]) -> None:
        assert self.account(*lost).holes == holes

    def test_a_loss_after_the_last_of_them_is_a_hole(self) -> None:
        found = self.account(8)
        assert found.holes == ("0:8",)
        assert found.lost_per_cut == (0, 0)

    def test_an_append_that_waited_across_one_is_put_down_to_it(self) -> None:
        records = [*self.NINE[:2], _append("0:2", 2, done_s=4.2), *self.NINE[5:]]
        found = account(History(records), [f"0:{number}" for number in (0, 1, 5, 6, 7, 8)], self.CUTS_NS)
        assert found.lost == ("0:2",)
        assert (found.holes, found.lost_per_cut, found.windows_s) == ((), (1, 0), (0.0, 0.0))

    def test_their_order_does_not_matter(self) -> None:
        assert account(History(self.NINE), [], self.CUTS_NS[::-1]) == account(History(self.NINE), [], self.CUTS_NS)

    def test_without_any_each_loss_is_a_hole(self) -> None:
        found = account(History(self.NINE), [f"0:{number}" for number in range(8)], ())
        assert (found.holes, found.windows_s, found.lost_per_cut, found.lost_window_s) == (("0:8",), (), (), 0.0)


class TestCounterExamples:
    def test_each_kind_is_printed_with_who_what_when_and_how_it_ended(self) -> None:
        records = [*SIX[:2], _append("0:2", 2, outcome=FAIL), *SIX[3:], _append("1:0", 6, outcome=UNKNOWN)]
        found = _account(records, ["0:0", "0:3", "0:2", "0:4", "1:0", "1:0", "0:9"], CUT_S)
        assert found.counter_examples().splitlines() == [
            "duplicated: worker 1 RPUSH '1:0', sent at 6.000000 s, ended at 6.001000 s: unknown Error: gone",
            "phantom: worker 0 RPUSH '0:2', sent at 2.000000 s, ended at 2.001000 s: fail Error: gone",
            "phantom: '0:9', which nobody sent",
            "out of order: worker 0 RPUSH '0:2', sent at 2.000000 s, ended at 2.001000 s: fail Error: gone",
            "lost as a hole: worker 0 RPUSH '0:1', sent at 1.000000 s, ended at 1.001000 s: ok",
            "lost as a hole: worker 0 RPUSH '0:5', sent at 5.000000 s, ended at 5.001000 s: ok",
        ]

    def test_seconds_count_from_the_first_that_was_sent(self) -> None:
        records = [_append("0:0", 100, done_s=103), _append("1:0", 101)]
        assert "sent at 1.000000 s" in _account(records, ["0:0"], 200).counter_examples()

    def test_so_many_of_each_kind_are_printed(self) -> None:
        found = _account(SIX, ["0:7", "0:8", "0:9"], 10)
        assert [line.partition(":")[0] for line in found.counter_examples(limit=2).splitlines()] == ["phantom", "phantom", "lost", "lost"]
        assert len(found.counter_examples().splitlines()) == 3 + 5

    def test_a_clean_account_prints_nothing(self) -> None:
        assert _account(SIX, ALL, CUT_S).counter_examples() == ""


def test_the_list_may_be_read_while_it_is_accounted_for() -> None:
    assert account(History(SIX), (value for value in ALL), [1]).corrupt == ()


@st.composite
def runs_with_outages(draw: Callable[..., Any]) -> tuple[list[Record], list[str], list[int], set[str]]:
    """Some servers one after the other, each of which loses a tail of its log; writers wait for none of them."""
    records: list[Record] = []
    present: list[str] = []
    cuts_ns, lost, begin_ns, numbers = [], set(), 0, [0] * 3
    for _ in range(draw(st.integers(1, 4))):
        log = []
        for worker in range(3):
            free_ns = begin_ns + draw(st.integers(0, 20))
            for _ in range(draw(st.integers(0, 5))):
                sent_ns = free_ns + draw(st.integers(0, 9))
                applied_ns = sent_ns + draw(st.integers(1, 9))
                free_ns = applied_ns + draw(st.integers(1, 9))
                value, outcome = f"{worker}:{numbers[worker]}", draw(st.sampled_from([OK, OK, OK, FAIL, UNKNOWN]))
                numbers[worker] += 1
                records.append(Record(worker, "RPUSH", value, sent_ns, sent_ns, free_ns, outcome))
                if outcome is OK or (outcome is UNKNOWN and draw(st.booleans())):
                    log.append((applied_ns, worker, value))
        values = [value for _, _, value in sorted(log)]
        kept = draw(st.integers(0, len(values)))
        present += values[:kept]
        lost |= set(values[kept:])
        begin_ns = max((record.done_ns for record in records), default=begin_ns) + 1
        cuts_ns.append(begin_ns)
    acknowledged = {record.value for record in records if record.outcome is OK}
    return records, present, cuts_ns, lost & acknowledged


@given(runs_with_outages())
def test_tails_lost_to_several_outages_are_counted_and_are_no_corruption(run: tuple[list[Record], list[str], list[int], set[str]]) -> None:
    records, present, cuts_ns, lost = run
    found = account(History(records), present, cuts_ns)
    assert found.corrupt == ()
    assert set(found.lost) == lost
    assert sum(found.lost_per_cut) == len(lost)


@given(runs_with_outages(), st.data())
def test_any_hole_in_the_log_of_any_server_is_caught(run: tuple[list[Record], list[str], list[int], set[str]], data: st.DataObject) -> None:
    records, present, cuts_ns, _ = run
    epochs = {record.value: sum(cut_ns <= record.done_ns for cut_ns in cuts_ns) for record in records}
    pairs = [
        (before, after)
        for before in records
        for after in records
        if before.outcome is after.outcome is OK
        and {before.value, after.value} <= set(present)
        and before.done_ns <= after.sent_ns
        and epochs[before.value] == epochs[after.value]
    ]
    if pairs:
        hole, _ = data.draw(st.sampled_from(pairs))
        assert account(History(records), [value for value in present if value != hole.value], cuts_ns).holes == (hole.value,)
