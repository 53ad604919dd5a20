"""The record on disk: written as it goes, read back as it was, and what it tells of a recorder that was killed."""

import errno
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.load import History, Journal, Outcome, Record, history, journal, read_journal
from runbook.load.journal import ENDED_BEFORE, WINDOW_BYTES, Lane
from runbook.load.memory import peak_mib

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
REPOSITORY = Path(__file__).resolve().parents[4]


def write(lane: Lane, record: Record) -> None:
    lane.invoke(record.operation, record.value, record.intended_ns, record.sent_ns)
    lane.done(record.done_ns, record.outcome, record.error)


def append(number: int, worker: int = 0, error: str = "", done_ns: int | None = None) -> Record:
    moment_ns = number * 10
    outcome = UNKNOWN if error else OK
    return Record(worker, "RPUSH", f"{worker}:{number}", moment_ns, moment_ns + 1, done_ns or moment_ns + 5, outcome, error)


class TestRecords:
    def test_what_was_recorded_is_read_back_as_it_was(self) -> None:
        kept, records = Journal(), [append(0), append(1, error="TimeoutError: gone"), append(2)]
        lane = kept.lane(0)
        for record in records:
            write(lane, record)
        assert [*kept.history] == records

    def test_what_was_read_takes_the_place_of_the_value(self) -> None:
        kept = Journal()
        lane = kept.lane(3)
        for read in ("3:7", "", None):
            lane.invoke("GET", "asked", 1, 2)
            lane.done(3, OK, read=read)
        assert [record.value for record in kept.history] == ["3:7", "", "asked"]

    @given(st.lists(st.tuples(*[st.text(st.characters(codec=None), max_size=40)] * 4), max_size=5))
    def test_any_text_is_read_back_as_it_was(self, texts: list[tuple[str, str, str, str]]) -> None:
        """Tabs, line breaks, NUL, backslashes, surrogates: an error may hold whatever a server sends."""
        kept = Journal()
        lane = kept.lane(0)
        for operation, value, error, read in texts:
            lane.invoke(operation, value, 1, 2)
            lane.done(3, FAIL, error, read)
        assert [(record.operation, record.error, record.value) for record in kept.history] == [(o, e, r) for o, _, e, r in texts]

    @pytest.mark.parametrize("length", [100, WINDOW_BYTES - 60, WINDOW_BYTES, 5 * WINDOW_BYTES + 1])
    def test_a_line_may_stand_across_windows_and_be_longer_than_one(self, length: int) -> None:
        kept = Journal()
        lane, records = kept.lane(0), [append(number, error="x" * length) for number in range(12)]
        for record in records:
            write(lane, record)
        lane.close()
        assert [*kept.history] == records

    def test_a_file_holds_nothing_behind_its_records_once_it_is_closed(self, tmp_path: Path) -> None:
        lane = Journal(tmp_path).lane(0)
        write(lane, append(0))
        assert lane.path.stat().st_size == WINDOW_BYTES
        lane.close()
        assert lane.path.read_text() == "0\tRPUSH\t0:0\t0\t1\t5\tok\t\n"

    def test_a_lane_takes_one_operation_at_a_time(self) -> None:
        lane = Journal().lane(4)
        with pytest.raises(ValueError, match="<Lane of worker 4: 0 records> has no operation to end"):
            lane.done(1, OK)
        lane.invoke("GET", "", 1, 1)
        with pytest.raises(ValueError, match="<Lane of worker 4: 0 records, one under way> takes no other operation"):
            lane.invoke("GET", "", 1, 1)
        lane.close()
        with pytest.raises(ValueError, match="closed"):
            lane.done(1, OK)

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere room is only promised")
    def test_a_full_disk_is_an_error_that_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"no room for another .*let TMPDIR name a larger disk.*lane-00000\.tsv"):
            Journal().lane(0).invoke("GET", "", 1, 1)


class TestOrder:
    def test_lanes_are_merged_in_the_order_in_which_operations_ended(self) -> None:
        kept, chance = Journal(), Random(7)
        lanes = [kept.lane(worker) for worker in range(5)]
        records = []
        for number in range(500):
            worker = chance.randrange(5)
            records.append(append(number, worker, done_ns=1 + number // 3))
            write(lanes[worker], records[-1])
        assert [record.done_ns for record in kept.history] == [record.done_ns for record in records]
        assert sorted(kept.history, key=lambda record: record.sent_ns) == records

    def test_lanes_can_be_looked_at_apart(self) -> None:
        kept = Journal()
        lanes = [kept.lane(worker) for worker in range(3)]
        for worker, lane in enumerate(lanes):
            write(lane, append(0, worker))
        assert [record.worker for record in kept.history_of(lanes[1:])] == [1, 2]
        assert repr(kept).startswith("<Journal of 3 lanes in ")

    def test_a_history_holds_what_had_ended_when_it_was_asked_for(self) -> None:
        kept = Journal()
        lane = kept.lane(0)
        write(lane, append(0))
        lane.invoke("RPUSH", "0:1", 10, 11)
        early = kept.history
        lane.done(15, OK)
        assert ([*early], len(early)) == ([append(0)], 1)
        assert [*kept.history] == [append(0), append(1)]

    def test_an_operation_that_never_ended_is_unknown_once_its_lane_is_closed(self) -> None:
        kept = Journal()
        lane = kept.lane(0)
        write(lane, append(0))
        lane.invoke("RPUSH", "0:1", 10, 11)
        lane.close()
        assert [*kept.history] == [append(0), Record(0, "RPUSH", "0:1", 10, 11, 11, UNKNOWN, ENDED_BEFORE)]
        assert len(kept.history) == 2


class TestHistory:
    def test_a_short_one_is_read_once_and_a_long_one_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept, reads = Journal(), []
        lane = kept.lane(0)
        for number in range(3):
            write(lane, append(number))
        honest = journal._records
        monkeypatch.setattr(journal, "_records", lambda part: reads.append(part) or honest(part))
        for most, expected in ((3, 1), (2, 3)):
            monkeypatch.setattr(history, "MOST_HELD", most)
            found = kept.history
            assert [*found] == [*found] == [append(number) for number in range(3)]
            assert (found.count(OK), len(found)) == (3, 3)
            assert len(reads) == expected
            reads.clear()
            assert repr(found) == "<History of 3 operations: 3 ok, 0 fail, 0 unknown>"
            reads.clear()


class TestFolder:
    def test_a_temporary_one_goes_with_the_last_that_could_read_it(self) -> None:
        kept = Journal()
        folder = kept.folder
        write(kept.lane(0), append(0))
        found = kept.history
        del kept
        gc.collect()
        assert [*found] == [append(0)]
        del found
        gc.collect()
        assert not folder.exists()

    def test_one_of_the_callers_own_stays_and_can_be_read_back(self, tmp_path: Path) -> None:
        lane = Journal(tmp_path / "new").lane(0)
        write(lane, append(0))
        del lane
        gc.collect()
        assert [*read_journal(tmp_path / "new")] == [append(0)]

    def test_the_journal_of_another_run_is_not_added_to(self, tmp_path: Path) -> None:
        write(Journal(tmp_path).lane(0), append(0))
        with pytest.raises(FileExistsError, match="the journal of another run: name another one"):
            Journal(tmp_path)

    def test_a_folder_without_a_journal_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="there is no journal in the folder"):
            read_journal(tmp_path)


RECORDER = """
import os, signal, sys, threading, time
from pathlib import Path
from runbook.load import Journal, Outcome

journal, now = Journal(Path(sys.argv[1])), time.monotonic_ns

def record(worker):
    lane = journal.lane(worker)
    for number in range(2000):
        lane.invoke("RPUSH", f"{worker}:{number}", now(), now())
        lane.done(now(), Outcome.OK)
    lane.invoke("RPUSH", f"{worker}:2000", now(), now())

for worker in range(3):
    record(worker)
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestKilled:
    def test_a_recorder_that_is_killed_loses_nothing_and_its_open_operations_are_unknown(self, tmp_path: Path) -> None:
        done = subprocess.run([sys.executable, "-c", RECORDER, str(tmp_path)], cwd=REPOSITORY, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        found = read_journal(tmp_path)
        values = [record.value for record in found if record.outcome is OK]
        assert sorted(values) == sorted(f"{worker}:{number}" for worker in range(3) for number in range(2000))
        left = [(record.value, record.error, record.done_ns == record.sent_ns) for record in found if record.outcome is UNKNOWN]
        assert left == [(f"{worker}:2000", ENDED_BEFORE, True) for worker in range(3)]
        assert len(found) == 6003
        assert [record.done_ns for record in found] == sorted(record.done_ns for record in found)

    @pytest.mark.parametrize("filled", [True, False], ids=["zeros behind it", "nothing behind it"])
    def test_wherever_a_line_was_cut_short_the_others_are_read_and_it_is_unknown_if_it_was_sent(self, filled: bool, tmp_path: Path) -> None:
        lane = Journal(tmp_path).lane(0)
        write(lane, append(0))
        lane.close()
        whole = lane.path.read_bytes()
        second = b"0\tRPUSH\t0:1\t10\t11\t15\tfail\tError: gone\n"
        for length in range(len(second)):
            lane.path.write_bytes(whole + second[:length] + bytes(300 * filled))
            first, *rest = read_journal(tmp_path)
            assert first == append(0)
            sent = length >= len(b"0\tRPUSH\t0:1\t10\t11\t")
            assert rest == ([Record(0, "RPUSH", "0:1", 10, 11, 11, UNKNOWN, ENDED_BEFORE)] if sent else [])

    def test_a_line_of_which_only_the_end_was_written_is_unknown(self, tmp_path: Path) -> None:
        path = Journal(tmp_path).lane(0).path
        path.write_bytes(b"0\tRPUSH\t0:1\t10\t11\t" + bytes(4) + b"ok\t\n" + bytes(50))
        assert [record.outcome for record in read_journal(tmp_path)] == [UNKNOWN]


GROWTH = """
import runbook.drills.recorder as recorder
from runbook.load import history
from runbook.load.memory import peak_mib

history.MOST_HELD = 0
recorder.measure(1000, print)
before_mib = peak_mib()
measured = recorder.measure(300_000, print)
assert measured.account.lost == (measured.left_out,), measured
print(measured.peak_mib - before_mib)
"""


@pytest.mark.skipif(not peak_mib(), reason="this host does not tell how much memory a process has held")
def test_the_account_of_a_history_too_long_to_be_held_takes_little_memory() -> None:
    """Held as a tuple these records are over 80 MiB."""
    done = subprocess.run([sys.executable, "-c", GROWTH], cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 20


def test_a_history_made_by_hand_needs_no_journal() -> None:
    assert [*History([append(1), append(0)])] == [append(0), append(1)]
