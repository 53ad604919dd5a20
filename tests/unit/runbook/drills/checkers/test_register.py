"""Histories of registers written by hand, one for each thing that must be caught, and random ones with a seeded defect."""

import dataclasses
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.drills.checkers import Readings, readings
from runbook.load import History, Outcome, Record

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
SECOND = 1_000_000_000


def _operation(name: str, value: str, sent_s: float, outcome: Outcome = OK, done_s: float | None = None, worker: int = 0) -> Record:
    sent_ns = round(sent_s * SECOND)
    done_ns = sent_ns + 1_000_000 if done_s is None else round(done_s * SECOND)
    return Record(worker, name, value, sent_ns, sent_ns, done_ns, outcome)


def wrote(number: int, sent_s: float, outcome: Outcome = OK, done_s: float | None = None) -> Record:
    return _operation("SET", f"0:{number}", sent_s, outcome, done_s)


def read(number: int | None, sent_s: float, outcome: Outcome = OK, done_s: float | None = None) -> Record:
    return _operation("GET", "" if number is None else f"0:{number}", sent_s, outcome, done_s)


def follow(*records: Record, cuts_s: tuple[float, ...] = (), window_s: float = 0.0) -> Readings:
    return readings(History(records), [round(cut_s * SECOND) for cut_s in cuts_s], window_s)


def accused(found: Readings) -> dict[str, tuple[str, ...]]:
    kinds = {"phantom": found.phantom, "stale": found.stale, "backwards": found.backwards, "returned": found.returned}
    return {kind: values for kind, values in kinds.items() if values}


class TestClean:
    def test_reads_of_what_was_written_last_are_clean(self) -> None:
        found = follow(read(None, 0), wrote(0, 1), read(0, 2), read(0, 3), wrote(1, 4), read(1, 5))
        assert (found.written, found.read, found.unknown) == (2, 4, 0)
        assert (accused(found), found.lost, found.corrupt, found.counter_examples()) == ({}, (), (), "")

    def test_an_empty_history_accuses_nobody(self) -> None:
        assert follow().corrupt == ()

    @pytest.mark.parametrize("seen", [0, 1])
    def test_a_write_of_unknown_outcome_may_be_seen_or_not(self, seen: int) -> None:
        found = follow(wrote(0, 0), wrote(1, 1, UNKNOWN), read(seen, 2))
        assert (accused(found), found.unknown) == ({}, 1)

    def test_a_write_of_unknown_outcome_may_take_effect_late(self) -> None:
        assert accused(follow(wrote(0, 0), wrote(1, 1, UNKNOWN), read(0, 2), wrote(2, 3), read(2, 4), read(1, 5), read(1, 6))) == {}

    def test_reads_that_were_not_answered_tell_nothing(self) -> None:
        assert accused(follow(wrote(0, 0), read(None, 1, FAIL), read(None, 2, UNKNOWN))) == {}

    def test_each_worker_has_a_register_of_its_own(self) -> None:
        records = [_operation("SET", "1:0", 0, worker=1), wrote(0, 0.5), _operation("GET", "1:0", 1, worker=1), read(0, 2)]
        assert accused(follow(*records)) == {}

    def test_other_operations_are_not_followed(self) -> None:
        assert follow(_operation("INCR", "0:9", 0), _operation("PING", "", 0)).read == 0


class TestKnownBad:
    def test_a_read_older_than_the_last_acknowledged_write_is_stale(self) -> None:
        found = follow(wrote(0, 0), wrote(1, 1), read(0, 2))
        assert accused(found) == {"stale": ("0:0",)}
        assert found.corrupt == ("1 stale, first 0:0",)
        assert found.counter_examples() == "stale: worker 0 GET '0:0', sent at 2.000000 s, ended at 2.001000 s: ok"

    def test_a_key_that_is_gone_is_stale(self) -> None:
        found = follow(wrote(0, 0), read(None, 1))
        assert accused(found) == {"stale": ("",)}
        assert found.corrupt == ("1 stale, first nothing",)

    def test_a_read_older_than_an_earlier_read_goes_backwards(self) -> None:
        assert accused(follow(wrote(0, 0), wrote(1, 1, UNKNOWN), read(1, 2), read(0, 3))) == {"backwards": ("0:0",)}

    def test_a_write_of_unknown_outcome_takes_effect_once(self) -> None:
        assert accused(follow(wrote(0, 0), wrote(1, 1, UNKNOWN), read(1, 2), wrote(2, 3), read(1, 4))) == {"stale": ("0:1",)}

    def test_what_was_replaced_and_comes_back_has_returned(self) -> None:
        """The late effect of one write hides the other for good."""
        records = [wrote(0, 0), wrote(1, 1, UNKNOWN), wrote(2, 2), read(1, 3), read(2, 4)]
        assert accused(follow(*records)) == {"returned": ("0:2",)}

    @pytest.mark.parametrize("value", ["0:9", "1:0", "garbage", "0:", "0:00"])
    def test_a_value_that_was_never_written_there_is_a_phantom(self, value: str) -> None:
        other = _operation("SET", "1:0", 0, worker=1)
        assert accused(follow(other, wrote(0, 0), _operation("GET", value, 1))) == {"phantom": (value,)}

    def test_a_write_that_certainly_failed_and_is_read_is_a_phantom(self) -> None:
        assert accused(follow(wrote(0, 0), wrote(1, 1, FAIL), read(1, 2))) == {"phantom": ("0:1",)}

    def test_a_value_read_before_it_is_written_is_a_phantom(self) -> None:
        assert accused(follow(read(0, 0), wrote(0, 1))) == {"phantom": ("0:0",)}

    def test_each_wrong_read_counts(self) -> None:
        assert follow(wrote(0, 0), wrote(1, 1), read(0, 2), read(0, 3), read(1, 4)).stale == ("0:0", "0:0")


class TestOutages:
    """Writes at the seconds 0 to 3; the server is gone at 3.5."""

    WRITES = tuple(wrote(number, number) for number in range(4))

    def after(self, *records: Record, window_s: float = 2.0) -> Readings:
        return follow(*self.WRITES, *records, cuts_s=(3.5,), window_s=window_s)

    def test_where_nothing_may_be_lost_an_older_value_is_stale(self) -> None:
        assert accused(self.after(read(2, 4), window_s=0.0)) == {"stale": ("0:2",)}

    def test_a_register_may_go_back_as_far_as_the_window(self) -> None:
        found = self.after(read(1, 4), read(1, 5), wrote(4, 6), read(4, 7))
        assert (accused(found), found.lost, found.lost_window_s) == ({}, ("0:2", "0:3"), pytest.approx(1.0))

    def test_no_further(self) -> None:
        assert accused(self.after(read(0, 4), window_s=2.0)) == {}
        assert accused(self.after(read(0, 4), window_s=1.999)) == {"stale": ("0:0",)}
        assert accused(self.after(read(None, 4), window_s=2.5)) == {"stale": ("",)}

    def test_all_may_be_lost_within_the_window(self) -> None:
        found = self.after(read(None, 4), window_s=3.0)
        assert (accused(found), len(found.lost)) == ({}, 4)

    def test_it_may_go_back_once(self) -> None:
        assert accused(self.after(read(2, 4), read(1, 5))) == {"stale": ("0:1",)}
        assert accused(self.after(read(2, 3.4, done_s=3.6), read(1, 4))) == {"stale": ("0:1",)}

    def test_it_may_not_go_back_once_the_new_server_has_shown_the_newest(self) -> None:
        assert accused(self.after(read(3, 4), read(2, 5))) == {"stale": ("0:2",)}
        assert accused(self.after(wrote(4, 4), read(3, 5))) == {"stale": ("0:3",)}

    def test_what_was_lost_may_not_return(self) -> None:
        assert accused(self.after(read(2, 4), read(3, 5))) == {"returned": ("0:3",)}

    def test_nor_after_another_outage(self) -> None:
        assert accused(follow(*self.WRITES, read(1, 4), read(2, 6), cuts_s=(3.5, 5.0), window_s=9.0)) == {"returned": ("0:2",)}

    def test_a_read_under_way_at_the_cut_may_be_answered_by_either_server(self) -> None:
        assert accused(self.after(read(3, 3.4, done_s=3.6), read(1, 4))) == {}
        assert accused(self.after(read(1, 3.4, done_s=3.6), read(1, 4))) == {}
        assert accused(self.after(read(1, 3.4, done_s=3.6), read(3, 4))) == {"returned": ("0:3",)}

    def test_a_write_under_way_at_the_cut_may_be_lost(self) -> None:
        assert accused(self.after(wrote(4, 3.4, done_s=3.6), read(2, 4))) == {}

    def test_the_window_ends_with_the_last_acknowledgement_of_any_worker(self) -> None:
        others = _operation("SET", "1:0", 3.4, worker=1)
        assert accused(self.after(others, read(1, 4), window_s=1.5)) == {}
        assert accused(self.after(others, read(1, 4), window_s=1.3)) == {"stale": ("0:1",)}

    def test_each_outage_may_take_its_own(self) -> None:
        records = [*self.WRITES, read(2, 4), wrote(4, 5), wrote(5, 6), read(4, 8), wrote(6, 9), read(6, 10)]
        found = follow(*records, cuts_s=(3.5, 7.0), window_s=0.5)
        assert (accused(found), found.lost) == ({}, ("0:3", "0:5"))

    def test_what_the_first_took_unseen_may_show_after_the_second(self) -> None:
        """0:4 was written on whatever the first outage had left, and is lost to the second."""
        found = follow(*self.WRITES, wrote(4, 5), read(2, 6), cuts_s=(3.5, 5.5), window_s=1.0)
        assert accused(found) == {}
        assert accused(follow(*self.WRITES, read(3, 4), wrote(4, 5), read(2, 6), cuts_s=(3.5, 5.5), window_s=1.0)) == {"stale": ("0:2",)}


def random_run(chance: Random) -> tuple[list[Record], list[int], float]:
    """Let workers write and read registers of servers that follow each other, each of which may take the newest writes with it."""
    records: list[Record] = []
    cuts_ns: list[int] = []
    logs: list[list[tuple[int, str]]] = [[(-1, "")] for _ in range(3)]  # of each register: since when it holds what
    late: list[list[str]] = [[] for _ in range(3)]
    numbers, begin_ns, window_ns = [0] * 3, 0, chance.choice([0, 15, 60])
    for _ in range(chance.randint(1, 4)):
        for worker, log in enumerate(logs):
            free_ns = begin_ns
            for _ in range(chance.randint(0, 6)):
                sent_ns = free_ns + chance.randint(0, 9)
                free_ns = sent_ns + chance.randint(1, 9)
                if late[worker] and chance.random() < 0.3:
                    log.append((sent_ns, late[worker].pop(chance.randrange(len(late[worker])))))
                if chance.random() < 0.5:
                    outcome = chance.choice([OK, OK, OK, FAIL, UNKNOWN])
                    records.append(Record(worker, "GET", log[-1][1] if outcome is OK else "", sent_ns, sent_ns, free_ns, outcome))
                    continue
                value, outcome = f"{worker}:{numbers[worker]}", chance.choice([OK, OK, OK, FAIL, UNKNOWN])
                numbers[worker] += 1
                records.append(Record(worker, "SET", value, sent_ns, sent_ns, free_ns, outcome))
                if outcome is OK or (outcome is UNKNOWN and chance.random() < 0.4):
                    log.append((free_ns, value))
                elif outcome is UNKNOWN and chance.random() < 0.6:
                    late[worker].append(value)
        last_ns = max((record.done_ns for record in records if record.outcome is OK), default=begin_ns)
        begin_ns = max((record.done_ns for record in records), default=begin_ns) + 1
        cuts_ns.append(begin_ns)
        if window_ns:
            kept_ns = chance.randint(max(0, last_ns - window_ns), begin_ns)
            logs = [[(since_ns, value) for since_ns, value in log if since_ns < kept_ns] for log in logs]
    return records, cuts_ns, window_ns / SECOND


def replaced(records: list[Record], at: int, value: str) -> History:
    return History([*records[:at], dataclasses.replace(records[at], value=value), *records[at + 1 :]])


@settings(max_examples=300)
@given(st.randoms())
def test_registers_that_keep_their_promise_are_never_accused(chance: Random) -> None:
    records, cuts_ns, window_s = random_run(chance)
    found = readings(History(records), cuts_ns, window_s)
    assert accused(found) == {}
    assert found.lost_window_s <= window_s
    assert window_s or not found.lost


@settings(max_examples=200)
@given(st.randoms())
def test_any_stale_read_is_caught(chance: Random) -> None:
    """An older value than an acknowledged write of the same server is read; it may be none that is still to take effect."""
    records, cuts_ns, window_s = random_run(chance)
    reads = [at for at, record in enumerate(records) if record.operation == "GET" and record.outcome is OK]
    for at in reads:
        own = [record for record in records[:at] if record.worker == records[at].worker and record.outcome is OK]
        written = [record for record in own if record.operation == "SET"]
        epoch_ns = max((cut_ns for cut_ns in cuts_ns if cut_ns <= records[at].sent_ns), default=0)
        if len(written) > 1 and written[-1].sent_ns >= epoch_ns:
            old = chance.choice(written[:-1]).value
            found = readings(replaced(records, at, old), cuts_ns, window_s)
            assert old in found.stale + found.backwards + found.returned


@settings(max_examples=200)
@given(st.randoms())
def test_any_phantom_is_caught(chance: Random) -> None:
    records, cuts_ns, window_s = random_run(chance)
    for at in [at for at, record in enumerate(records) if record.operation == "GET" and record.outcome is OK]:
        worker = records[at].worker
        failed = [record.value for record in records if (record.worker, record.operation) == (worker, "SET") and record.outcome is FAIL]
        value = chance.choice(["9:0", f"{worker}:999", f"{worker + 1}:0", *failed])
        assert readings(replaced(records, at, value), cuts_ns, window_s).phantom == (value,)


@given(st.randoms())
def test_a_value_lost_to_one_outage_that_comes_back_is_caught(chance: Random) -> None:
    records, cuts_ns, window_s = random_run(chance)
    lost = readings(History(records), cuts_ns, window_s).lost
    acknowledged = {record.value for record in records if record.operation == "SET" and record.outcome is OK}
    for value in set(lost) & acknowledged:
        again = Record(int(value[0]), "GET", value, cuts_ns[-1] + 10, cuts_ns[-1] + 10, cuts_ns[-1] + 11, OK)
        settled = dataclasses.replace(again, value="", sent_ns=cuts_ns[-1] + 2, done_ns=cuts_ns[-1] + 3, operation="SET")
        settled = dataclasses.replace(settled, value=f"{value[0]}:500")
        assert accused(readings(History([*records, settled, again]), cuts_ns, window_s))
