"""The process that executes one notebook: papermill, with evidence instead of files that tell where they were made.

Run as `python -m runbook.worker NOTEBOOK FOLDER` with the parameters as JSON on standard input. It prints one line of JSON for each cell
that begins. papermill changes the process's directory and keeps global state, so each notebook gets such a process.
"""

import asyncio
import fcntl
import json
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import IO, Any

import runbook.lean  # noqa: F401 - before papermill

# isort: split
import papermill
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import papermill_io
from traitlets.config import Config as JupyterConfig

from runbook.evidence import RunFolder
from runbook.evidence.notebook import normalise
from runbook.evidence.store import NOTEBOOK

# papermill chooses who writes an output by the beginning of its path.
SCHEME = "evidence:"


class EvidenceHandler:
    """Where papermill saves: after each cell, atomically, without its own metadata and without secrets."""

    def __init__(self, folder: RunFolder, starting: IO[str]) -> None:
        self._folder, self._starting, self._begun = folder, starting, -1

    def read(self, path: str) -> str:
        raise OSError(f"{path} is only written")

    def listdir(self, path: str) -> list[str]:
        raise OSError(f"{path} is only written")

    def pretty_path(self, path: str) -> str:
        return path

    def write(self, text: str, path: str) -> None:
        """Save the notebook, and report the cell that has begun since the last time."""
        notebook = json.loads(text)
        self._report(notebook)
        self._folder.write_json(NOTEBOOK, normalise(notebook))

    def _report(self, notebook: dict[str, Any]) -> None:
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        begun = sum(cell["metadata"].get("papermill", {}).get("start_time") is not None for cell in code)
        if begun != self._begun:
            self._begun = begun
            if begun:
                self._starting.close()
            print(json.dumps({"cell": begun, "of": len(code)}), flush=True)


def main(notebook: str, folder: str, cell_timeout_s: str) -> int:
    """Execute one notebook; 0 if papermill came to the end, which says nothing of the verdict.

    Args:
        notebook: path of the notebook.
        folder: the run folder, which exists.
        cell_timeout_s: bound of each cell, in seconds.
    """
    # A shell ignores SIGINT for what it starts in the background, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Kernels that start at the same time may choose the same ports, and one of them dies of it: so one after the other.
    starting = (Path(tempfile.gettempdir()) / "kernel-start.lock").open("a")
    fcntl.flock(starting, fcntl.LOCK_EX)
    handler = EvidenceHandler(RunFolder(Path(folder)), starting)
    papermill_io.register(SCHEME, handler)
    warnings.simplefilter("ignore")
    try:
        papermill.execute_notebook(
            notebook,
            f"{SCHEME}{NOTEBOOK}",
            parameters=json.load(sys.stdin),
            cwd=str(Path(notebook).parent),
            progress_bar=False,
            execution_timeout=float(cell_timeout_s),
            # All is written by then, and a graceful shutdown takes a second.
            shutdown_kernel="immediate",
            # Otherwise the channels to the kernel are open to every user of the host.
            config=JupyterConfig({"KernelManager": {"transport_encryption": "required"}}),
        )
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except PapermillExecutionError:  # a cell raised: the notebook itself says which, and how
        return 1
    except Exception as error:  # anything else: the kernel died, a cell took too long, the notebook can't be read
        print(
            json.dumps({"error": f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"}),
            flush=True,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
