"""Which cores server and load run on, and that the server has its own back afterwards."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runbook.load import placement
from runbook.load.placement import Placement, cores, placed

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux pins processes")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands in for a server of ours."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_the_server_is_pinned_for_the_block_and_no_longer(process: subprocess.Popen[bytes]) -> None:
    before = os.sched_getaffinity(process.pid)
    with placed(process.pid) as found:
        assert os.sched_getaffinity(process.pid) == {found.server} == {cores()[0]}
        assert found.load == cores()[-1]
    assert os.sched_getaffinity(process.pid) == before


def test_the_server_is_released_after_an_error(process: subprocess.Popen[bytes]) -> None:
    before = os.sched_getaffinity(process.pid)
    with pytest.raises(ZeroDivisionError), placed(process.pid):
        raise ZeroDivisionError
    assert os.sched_getaffinity(process.pid) == before


def test_a_server_that_ended_meanwhile_is_no_error(process: subprocess.Popen[bytes]) -> None:
    with placed(process.pid):
        process.kill()
        process.wait()


def test_a_server_of_others_is_left_alone_and_so_is_the_load() -> None:
    with placed(None) as found:
        assert found == Placement()


def test_where_the_system_does_not_tell_nothing_is_pinned(process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "cores", list)
    with placed(process.pid) as found:
        assert found == Placement()


@pytest.mark.parametrize(
    ("found", "apart", "words"),
    [
        (Placement(), False, "nothing is pinned to a core"),
        (Placement(0, (3, 2)), True, "the server is pinned to core 0, the load to core 3"),
        (Placement(0, (0,)), False, "server and load share core 0, the only one"),
    ],
)
def test_a_placement_says_itself(found: Placement, apart: bool, words: str) -> None:
    assert found.apart is apart
    assert found.words == words
