"""Shows how far work is while it runs: `progress("outage 2 of 3")`, wherever that work runs.

Under `runbook run`, `verify` and `refresh` the text becomes a progress line of the runner. In any other notebook kernel (JupyterLab, plain
papermill, nbval) it is one line below the cell, which each call replaces, and which is empty when the cell ends. On a terminal it is a line
on stderr. Elsewhere nothing is shown. Work that ends within `QUIET_S` shows nothing.

The line below a cell is an output with no data, which only updates fill: nbval, which compares outputs and ignores updates, sees nothing,
and the saved notebook holds nothing of it but that empty output.
"""

import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

# Names the file to which a kernel appends its progress, a line each; the runner sets it and reads the file.
PROGRESS_VARIABLE = "RUNBOOK_PROGRESS_FILE"
# Work that ends sooner shows nothing.
QUIET_S = 2.0


class Line(Protocol):
    """Where progress is shown."""

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        ...

    def close(self) -> None:
        """Take the text away."""
        ...


class Work:
    """One piece of work: shows the newest text once `quiet_s` have passed since the first one, and each later text at once.

    Args:
        line: where to show it.
        quiet_s: seconds for which nothing is shown.
    """

    def __init__(self, line: Line, quiet_s: float = QUIET_S) -> None:
        self._line, self._lock, self._text, self._shows, self._ended = line, threading.Lock(), "", False, False
        self._timer = threading.Timer(quiet_s, self._begin)
        self._timer.daemon = True
        self._timer.start()

    def say(self, text: str) -> None:
        """Show a text, now or when the work has taken long enough."""
        with self._lock:
            self._text = text
            if self._shows and not self._ended:
                self._line.show(text)

    def end(self) -> None:
        """Take the line away; nothing is shown afterwards."""
        self._timer.cancel()
        with self._lock:
            if self._shows and not self._ended:
                self._line.close()
            self._ended = True

    def _begin(self) -> None:
        with self._lock:
            if not self._ended:
                self._shows = True
                self._line.show(self._text)


class CellLine:
    """One line below a notebook's cell; made by the first text, replaced by each later one, emptied in the end.

    Args:
        publish: `publish` of IPython's display publisher.
    """

    def __init__(self, publish: Callable[..., None]) -> None:
        self._publish, self._display_id = publish, ""

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        if not self._display_id:
            self._display_id = uuid.uuid4().hex
            self._send({})  # without data: see the module's docstring
        self._send({"text/plain": text}, update=True)

    def close(self) -> None:
        """Leave the output empty."""
        self._send({}, update=True)

    def _send(self, data: dict[str, str], **how: bool) -> None:
        self._publish(data, {}, transient={"display_id": self._display_id}, **how)


class FileLine:
    """Appends each text to a file that the runner reads.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def show(self, text: str) -> None:
        """Append a text."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{' '.join(text.split())}\n")

    def close(self) -> None:
        """Do nothing: the runner keeps its lines."""


class TerminalLine:
    """Prints each text on stderr, with the seconds since the first call."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def show(self, text: str) -> None:
        """Print a text."""
        print(f"{time.monotonic() - self._began_s:6.1f} s  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing: a terminal keeps its lines."""


class _Current:
    """The work of this process: of the cell that runs in a kernel, else of the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: Work | None = None

    def say(self, text: str) -> None:
        """Show a text, if there is a place for it."""
        with self._lock:
            if self._work is None:
                self._work = self._begin()
        if self._work:
            self._work.say(text)

    def _begin(self) -> Work | None:
        kernel = _kernel_shell()
        if path := os.environ.get(PROGRESS_VARIABLE):
            work = Work(FileLine(Path(path)))
        elif kernel:
            work = Work(CellLine(kernel.display_pub.publish))
        elif sys.stderr.isatty():
            return Work(TerminalLine())
        else:
            return None
        if kernel:
            kernel.events.register("post_run_cell", self._end)
        return work

    def _end(self, result: object) -> None:
        with self._lock:
            work, self._work = self._work, None
        _kernel_shell().events.unregister("post_run_cell", self._end)
        if work:
            work.end()


def _kernel_shell() -> Any:
    """Return IPython's shell if this process is a notebook's kernel; None elsewhere, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) else None


_CURRENT = _Current()


def progress(text: str) -> None:
    """Show how far the work is that now runs, such as `outage 2 of 3`.

    Args:
        text: in a few words; it replaces the text before it.
    """
    _CURRENT.say(text)
