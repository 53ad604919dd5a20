"""Progress of long work: quiet at first, one line that is replaced, and nothing left of it."""

import time
from pathlib import Path
from typing import Any

import pytest

from runbook.progress import CellLine, FileLine, Work, progress


class Shown:
    """A line that writes down what it is asked to show."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def show(self, text: str) -> None:
        self.texts.append(text)

    def close(self) -> None:
        self.texts.append("closed")


def test_work_that_ends_in_time_shows_nothing() -> None:
    line = Shown()
    work = Work(line, quiet_s=60.0)
    work.say("outage 1 of 2")
    work.end()
    assert line.texts == []


def test_longer_work_shows_the_newest_text_then_each_later_one_and_takes_it_away_in_the_end() -> None:
    line = Shown()
    work = Work(line, quiet_s=0.2)
    work.say("outage 1 of 3")
    work.say("outage 2 of 3")
    until_s = time.monotonic() + 10
    while not line.texts and time.monotonic() < until_s:
        time.sleep(0.01)
    work.say("outage 3 of 3")
    work.end()
    work.say("too late")
    work.end()
    assert line.texts == ["outage 2 of 3", "outage 3 of 3", "closed"]


def test_the_line_of_a_cell_is_one_output_without_data_that_only_updates_fill() -> None:
    sent: list[tuple[dict[str, str], bool, str]] = []

    def publish(data: dict[str, str], metadata: Any, *, transient: dict[str, str], update: bool = False) -> None:
        sent.append((data, update, transient["display_id"]))

    line = CellLine(publish)
    line.show("outage 1 of 2")
    line.show("outage 2 of 2")
    line.close()
    assert [(data, update) for data, update, _ in sent] == [
        ({}, False),  # all that nbval compares
        ({"text/plain": "outage 1 of 2"}, True),
        ({"text/plain": "outage 2 of 2"}, True),
        ({}, True),
    ]
    assert len({display_id for _, _, display_id in sent}) == 1


def test_the_runner_reads_a_line_for_each_text(tmp_path: Path) -> None:
    line = FileLine(tmp_path / "progress")
    line.show("outage 1\nof 2")
    line.show("outage 2 of 2")
    line.close()
    assert (tmp_path / "progress").read_text() == "outage 1 of 2\noutage 2 of 2\n"


def test_where_there_is_no_place_for_it_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    progress("outage 1 of 2")
    assert capfd.readouterr() == ("", "")
