"""The process that does one drill: whatever becomes of it, the one that started it goes on, and heals.

Run as `python -m runbook.drill_worker NAME` with the options as JSON on standard input. It prints lines of JSON: what it is about, and at
last what it found.
"""

import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runbook.drills.catalogue import DRILLS
from runbook.drills.drill import Drill, Ground
from runbook.drills.undo import UndoLog, state_folder
from runbook.evidence import Finding, RunFolder, Verdict
from runbook.evidence.samples import as_csv
from runbook.targets import NotServing, TargetError

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def main(name: str) -> int:
    """Do the drill; 0 if it came to its end, which says nothing of the verdict."""
    # A shell ignores SIGINT for what it starts in the background, and that is inherited; SIGTERM should clean up as Ctrl-C does.
    for number in INTERRUPTS:
        signal.signal(number, _interrupt_once)
    options = json.load(sys.stdin)
    drill, evidence = DRILLS[name], RunFolder(Path(options["evidence"]))
    ground = Ground(
        drill=name,
        environ=os.environ,
        target=options["target"],
        profile=options["profile"],
        times=options["times"],
        seed=options["seed"],
        folder=Path(tempfile.gettempdir()),
        undo=UndoLog(state_folder(os.environ)),
        say=lambda what: _print({"say": what}),
        keep=lambda what, history: evidence.write_gzip(f"samples-{name}-{what}.csv.gz", as_csv(history)),
    )
    try:
        findings = _perform(drill, ground)
    except KeyboardInterrupt:
        # All is healed by now. At once, so that the journals of what was recorded stay for the one who watches.
        os._exit(130)
    _print({"findings": [asdict(finding) for finding in findings], "engine": asdict(ground.engine) if ground.engine else None})
    return 0


def _interrupt_once(number: int, frame: object) -> None:
    for each in INTERRUPTS:  # what heals now is not to be interrupted again
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _perform(drill: Drill, ground: Ground) -> list[Finding]:
    if ground.target not in drill.targets:
        where = " or ".join(drill.targets)
        return [Finding("I-4", drill.promise, Verdict.INCONCLUSIVE, f"it can't be answered on the target {ground.target}: choose {where}")]
    try:
        return [*drill.perform(ground), *ground.findings]
    except NotServing as error:
        return [Finding("I-4", drill.promise, Verdict.FAIL, str(error)), *ground.findings]
    except TargetError as error:  # a refusal, or something that can't be done here
        return [Finding("I-4", drill.promise, Verdict.INCONCLUSIVE, str(error)), *ground.findings]


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
