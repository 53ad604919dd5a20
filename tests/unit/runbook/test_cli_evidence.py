"""What weighs more decides the exit status of a verification that was held against an earlier one."""

from pathlib import Path

import pytest

from runbook.cli import exit_status
from runbook.evidence import RunFolder, Verdict
from runbook.execute import Run
from runbook.notebooks import FOLDER, find_notebook

PASS, FAIL, INCONCLUSIVE, BROKEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, None


def _run(verdict: Verdict | None, *, interrupted: bool = False) -> Run:
    return Run(find_notebook("setup", FOLDER), RunFolder(Path("unused"), {}), verdict, "", {}, interrupted)


@pytest.mark.parametrize(
    ("verdicts", "against", "status"),
    [
        ([PASS, PASS], PASS, 0),
        ([PASS, PASS], FAIL, 1),
        ([PASS, PASS], INCONCLUSIVE, 3),
        ([PASS, BROKEN], FAIL, 1),
        ([PASS, BROKEN], INCONCLUSIVE, 4),
        ([FAIL, BROKEN], PASS, 1),
        ([INCONCLUSIVE, PASS], PASS, 3),
        ([], PASS, 3),
    ],
)
def test_a_failure_outweighs_a_broken_run_which_outweighs_what_is_open(
    verdicts: list[Verdict | None], against: Verdict, status: int
) -> None:
    assert exit_status([_run(verdict) for verdict in verdicts], [against]) == status


def test_an_interruption_outweighs_all() -> None:
    assert exit_status([_run(FAIL), _run(BROKEN, interrupted=True)], [FAIL]) == 130
