"""The command while it is being loaded."""

import subprocess
import sys

# Interrupts itself when the module of this name is looked for.
INTERRUPTED_AT = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
from runbook.__main__ import main
sys.argv = ["runbook", "list"]
sys.exit(main())
"""


def _run(name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", INTERRUPTED_AT.format(name=name)], capture_output=True, text=True, timeout=60, check=False)


def test_an_interruption_while_it_is_loaded_is_one_like_any_other() -> None:
    ended = _run("runbook.evidence.archive")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "runbook: interrupted\n")


def test_without_one_it_runs() -> None:
    ended = _run("no.such.module")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "persistence-drill" in ended.stdout
