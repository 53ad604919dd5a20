"""The records of a run on disk: written as it goes, a file for each worker, readable after the recorder was killed.

A lane is written through a mapped window on its file. So a record costs no system call, and what was written is the kernel's at once: it
outlives a SIGKILL of the recorder, though not the loss of the host. A line holds the fields of a `Record` in their order; its first half is
written before the operation is sent, its second half when it has ended.
"""

import errno
import heapq
import mmap
import operator
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook.load.history import History, Outcome, Record

# A window of a lane, and so what a lane holds in memory; a multiple of every page size.
WINDOW_BYTES = 64 * 1024
# What is read of a lane at a time.
BLOCK_BYTES = 64 * 1024
ENDED_BEFORE = "the recorder ended before the operation did"

# Of the folder of a journal that nobody named; what a recorder that was killed has left is found by it.
PREFIX = "runbook-journal-"
_LANES = "lane-*.tsv"
_FIELDS_BEFORE = 5
_OUTCOMES = {str(outcome): outcome for outcome in Outcome}


class Lane:
    """The records of one worker, in the order in which its operations ended; only one thread may write it.

    Args:
        path: of its file, which is made with the first record.
        worker: whose.
        folder: what must not go while it is written.
    """

    def __init__(self, path: Path, worker: int, folder: object) -> None:
        self.path = path
        self._folder = folder
        self.count, self.length_bytes = 0, 0  # of the operations that have ended
        self._worker = worker
        self._window: mmap.mmap | None = None
        self._begin = self._at = 0  # of the window in the file, and of what comes next in the window
        self._under_way = self._closed = False

    def __repr__(self) -> str:
        return f"<Lane of worker {self._worker}: {self.count} records{', one under way' * self._under_way}{', closed' * self._closed}>"

    def invoke(self, operation: str, value: str, intended_ns: int, sent_ns: int) -> None:
        """Write down that an operation is about to be sent.

        Args:
            operation: its name.
            value: what identifies it, or empty.
            intended_ns: when the pacer wanted it to start.
            sent_ns: when it starts.

        Raises:
            ValueError: the operation before has not ended, or the lane is closed.
            OSError: the disk is full.
        """
        if self._under_way or self._closed:
            raise ValueError(f"{self!r} takes no other operation")
        self._write(f"{self._worker}\t{_escaped(operation)}\t{_escaped(value)}\t{intended_ns}\t{sent_ns}\t")
        self._under_way = True

    def done(self, done_ns: int, outcome: Outcome, error: str = "", read: str | None = None) -> None:
        """Write down how the operation ended.

        Args:
            done_ns: when.
            outcome: how.
            error: its type and text; empty for `ok`.
            read: what stands for the value that was invoked, once it is known; None keeps that.

        Raises:
            ValueError: there is no operation under way.
            OSError: the disk is full.
        """
        if not self._under_way or self._closed:
            raise ValueError(f"{self!r} has no operation to end")
        ending = "" if read is None else f"\t{_escaped(read)}"
        self._write(f"{done_ns}\t{outcome}\t{_escaped(error)}{ending}\n")
        self._under_way = False
        self.count += 1
        self.length_bytes = self._begin + self._at

    def close(self) -> None:
        """Give back the window, and the rest of the file behind what was written; an operation under way stays one."""
        self._closed = True
        if self._window is not None:
            self._window.close()
            self._window = None
            os.truncate(self.path, self._begin + self._at)

    @property
    def part(self) -> "Part":
        """What can be read of it now: the operations that have ended, and one more that never will if the lane is closed."""
        if self._closed and self._under_way:
            return Part(self.path, self._begin + self._at, self.count + 1)
        return Part(self.path, self.length_bytes, self.count)

    def _write(self, text: str) -> None:
        content = text.encode("ascii")
        if self._window is not None and self._at + len(content) <= WINDOW_BYTES:
            self._window[self._at : self._at + len(content)] = content
            self._at += len(content)
            return
        while content:  # a line may stand across the border of two windows
            window = self._window if self._window is not None and self._at < WINDOW_BYTES else self._advance()
            fits = content[: WINDOW_BYTES - self._at]
            window[self._at : self._at + len(fits)] = fits
            self._at += len(fits)
            content = content[len(fits) :]

    def _advance(self) -> mmap.mmap:
        begin = 0 if self._window is None else self._begin + WINDOW_BYTES
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform == "linux":
                # Room that is only promised would be a SIGBUS on a full disk, where this is an error.
                os.posix_fallocate(descriptor, begin, WINDOW_BYTES)
            else:
                os.ftruncate(descriptor, begin + WINDOW_BYTES)
            window = mmap.mmap(descriptor, WINDOW_BYTES, offset=begin)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            reason = f"no room for another {WINDOW_BYTES} bytes of the journal: free some, or let TMPDIR name a larger disk"
            raise OSError(errno.ENOSPC, reason, str(self.path)) from error
        finally:
            os.close(descriptor)
        if self._window is not None:
            self._window.close()
        self._window, self._begin, self._at = window, begin, 0
        return window


class Journal:
    """A folder of lanes; one of its own is removed when nobody can read it any more.

    Args:
        folder: which is made if need be, holds no other journal, and stays; None for a temporary one.

    Raises:
        FileExistsError: the folder holds the journal of another run.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._kept = _Folder(folder)
        self.folder = self._kept.path
        if any(self.folder.glob(_LANES)):
            raise FileExistsError(errno.EEXIST, "the folder holds the journal of another run: name another one", str(folder))
        self._lanes: list[Lane] = []

    def __repr__(self) -> str:
        return f"<Journal of {len(self._lanes)} lanes in {self.folder}: {sum(lane.count for lane in self._lanes)} records>"

    def lane(self, worker: int) -> Lane:
        """Add a lane for a worker; close it when the worker has ended."""
        lane = Lane(self.folder / f"lane-{len(self._lanes):05d}.tsv", worker, self._kept)
        self._lanes.append(lane)
        return lane

    def history_of(self, lanes: Sequence[Lane]) -> History:
        """Return what some of its lanes hold so far; what is recorded later is not in it."""
        return History.stored(_Stored([lane.part for lane in lanes], self._kept))

    @property
    def history(self) -> History:
        """What all lanes hold so far."""
        return self.history_of(self._lanes)


def read_journal(folder: Path) -> History:
    """Read a journal back whose recorder has ended, in whatever way.

    An operation that it had invoked, and of which no end was recorded, is `unknown`.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    paths = sorted(folder.glob(_LANES))
    if not paths:
        raise FileNotFoundError(errno.ENOENT, "there is no journal in the folder", str(folder))
    parts = [Part(path, path.stat().st_size, 0) for path in paths]
    return History.stored(_Stored([Part(part.path, part.length_bytes, sum(1 for _ in _lines(part))) for part in parts], None))


class _Folder:
    """Where a journal is; a temporary one is removed with the last journal, lane or history that refers to it, or at exit."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        else:
            self.path = path
            path.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a lane.

    Attributes:
        path: of its file.
        length_bytes: how much of it.
        count: how many records that holds.
    """

    path: Path
    length_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class _Stored:
    """Records that are read again each time; keeps the folder that must not go meanwhile."""

    parts: list[Part]
    folder: object

    def __len__(self) -> int:
        return sum(part.count for part in self.parts)

    def __iter__(self) -> Iterator[Record]:
        lanes = [_records(part) for part in self.parts if part.count]
        # Each lane is in order by itself, so that nothing need be sorted, or held.
        return lanes[0] if len(lanes) == 1 else heapq.merge(*lanes, key=operator.attrgetter("done_ns"))


def _records(part: Part) -> Iterator[Record]:
    for line in _lines(part):
        fields = line.split("\t")
        if "\\" in line:
            fields = [field.encode("ascii").decode("unicode_escape") for field in fields]
        worker, operation, value, intended, sent, done, outcome, error, *read = fields
        yield Record(int(worker), operation, read[0] if read else value, int(intended), int(sent), int(done), _OUTCOMES[outcome], error)


def _lines(part: Part) -> Iterator[str]:
    """Yield the whole lines of a lane; one that was cut short ends as `unknown`, unless its operation had not been sent."""
    rest = b""
    # The file is opened for each block, since a thousand lanes at once are more than a process may hold open.
    for begin in range(0, part.length_bytes, BLOCK_BYTES):
        with part.path.open("rb") as file:
            file.seek(begin)
            *lines, rest = (rest + file.read(min(BLOCK_BYTES, part.length_bytes - begin))).split(b"\n")
        for line in lines:
            if b"\0" in line:
                yield from _cut_short(line)
            else:
                yield line.decode("ascii")
    yield from _cut_short(rest)


def _cut_short(line: bytes) -> Iterator[str]:
    before = line.partition(b"\0")[0].decode("ascii").split("\t")
    if len(before) > _FIELDS_BEFORE:  # the last of them is what there is of the second half
        sent = before[_FIELDS_BEFORE - 1]
        # It is not known how long it took; at that moment it was alive, and behind all that had ended in this lane.
        yield "\t".join([*before[:_FIELDS_BEFORE], sent, Outcome.UNKNOWN, ENDED_BEFORE])


def _escaped(text: str) -> str:
    """Write a text so that it holds neither tab nor line break nor anything but ASCII."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii")
