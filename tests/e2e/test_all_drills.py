"""Drills end to end, by the command line: those that no notebook does on each change, all of them each night."""

import os
import shutil

import pytest

from runbook.drills.catalogue import DRILLS
from tests.e2e.test_drill import Ground, ground

__all__ = ["ground"]  # a fixture

# Which of them can't be answered here, for want of root, strace or a compiler.
NEED_MORE = {
    *(() if os.geteuid() == 0 else ("out-of-memory", "disk-full", "fsync-error", "slow-fsync")),
    *(() if shutil.which("strace") else ("fsync-error", "slow-fsync")),
    *(() if shutil.which("cc") else ("clock-step",)),
}

# Those that a notebook does as well: nbval runs it.
OF_NOTEBOOKS = {"stop", "kill", "power-loss", "restore-time", "aof-damage"}
OTHERS = tuple(name for name in DRILLS if name not in OF_NOTEBOOKS)


@pytest.mark.covers_processes
@pytest.mark.timeout(600)
@pytest.mark.parametrize("names", [OTHERS, pytest.param(tuple(DRILLS), marks=pytest.mark.nightly)], ids=["others", "all"])
def test_drills_hold_with_their_controls_and_leave_nothing_behind(ground: Ground, names: tuple[str, ...]) -> None:
    done = ground.run("drill", *(["--all"] if names == tuple(DRILLS) else names), "--seed", "3", timeout_s=590)
    result = ground.result()
    undecided = {
        drill["name"]: [f"{finding['claim']}: {finding['reason']}" for finding in drill["findings"] if finding["verdict"] != "PASS"]
        for drill in result["drills"]
        if drill["verdict"] != "PASS"
    }
    assert set(undecided) == NEED_MORE & set(names), undecided
    assert all(undecided.values()), "what can't be told says why"
    assert done.returncode == (3 if undecided else 0)
    if not undecided:
        assert result["controls"]["failed_as_they_must"] == result["controls"]["of"] > 0
    assert [drill["name"] for drill in result["drills"]] == list(names)
    assert ground.left == []
