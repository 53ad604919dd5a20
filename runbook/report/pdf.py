"""Prints a page as PDF with a Chromium that is installed: headless, in a profile of its own, without network, ended if it hangs."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runbook.evidence.secrets import redact, secrets_of
from runbook.evidence.store import PAGE, EvidenceError, write_atomically

CHROMIUM_VARIABLE = "RUNBOOK_CHROMIUM"
# As Debian, other distributions and Google name it.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# A page takes 2 s; a busy CI may take its time.
TIMEOUT_S = 60.0

_OPTIONS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's /dev/shm is too small for it
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the page asks for nothing, and neither may the browser
    "--proxy-server=127.0.0.1:9",
    "--no-pdf-header-footer",  # it would bear the path and the date
)
# A relative link would become the absolute path of this machine.
_RELATIVE_LINK = re.compile(r"""(<a\b[^>]*?)\shref=(["'])(?!#|https?:|mailto:).*?\2""")


def print_run(run: Path, page: str, environ: Mapping[str, str], file: Path | None = None, *, timeout_s: float = TIMEOUT_S) -> Path:
    """Print the page of a run as PDF, and return where it is.

    Args:
        run: its folder, to which nothing is added.
        page: HTML, as it was rendered just now: the stored one may have been altered.
        environ: says where the programs are, and which one to take with `RUNBOOK_CHROMIUM`.
        file: where the PDF goes; beside the run's folder by default.
        timeout_s: when a browser that hangs is ended.

    Raises:
        EvidenceError: there is no Chromium, it failed or hung, or the file can't be written.
    """
    run = run.resolve()
    file = file or run.parent / f"{run.name}.pdf"
    if file.resolve().is_relative_to(run):
        raise EvidenceError(f"{file} would lie in the run folder, whose manifest tells of every change: name a file elsewhere")
    if file.is_dir() or not file.resolve().parent.is_dir():
        raise EvidenceError(f"{file} can't be written: name a file in a folder that exists")
    pdf = print_page(page, environ, timeout_s=timeout_s)
    try:
        write_atomically(file, pdf)
    except OSError as error:
        raise EvidenceError(f"{file} can't be written ({error.strerror}): name another file with --pdf FILE") from error
    return file


def print_page(page: str, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> bytes:
    """Print a self-contained page on A4 paper.

    Args:
        page: HTML, whose own rules for print are heeded.
        environ: as of `print_run`.
        timeout_s: when a browser that hangs is ended.

    Raises:
        EvidenceError: there is no Chromium, or it failed or hung.
    """
    chromium = find_chromium(environ)
    with tempfile.TemporaryDirectory(prefix="runbook-pdf-", ignore_cleanup_errors=True) as scratch:
        source, printed = Path(scratch, PAGE), Path(scratch, "page.pdf")
        source.write_text(_RELATIVE_LINK.sub(r"\1", page), encoding="utf-8")
        # As root it refuses to work in its sandbox; what it shows is our own page.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [chromium, *_OPTIONS, *sandbox, f"--user-data-dir={scratch}/profile", f"--print-to-pdf={printed}", source.as_uri()]
        complaint = _complaint(command, Path(scratch), environ, timeout_s)
        if not printed.exists() or not (pdf := printed.read_bytes()).startswith(b"%PDF"):
            raise EvidenceError(
                f"{chromium} printed no page ({complaint or 'it said nothing'}): try it by hand, or name another program "
                f"with {CHROMIUM_VARIABLE}"
            )
        return pdf


def find_chromium(environ: Mapping[str, str]) -> str:
    """Return the path of a Chromium.

    Raises:
        EvidenceError: there is none.
    """
    if named := environ.get(CHROMIUM_VARIABLE):
        if found := shutil.which(named, path=environ.get("PATH")):
            return found
        raise EvidenceError(f"{CHROMIUM_VARIABLE} names {named}, which is no program: name the path of a Chromium or a Chrome")
    for program in PROGRAMS:
        if found := shutil.which(program, path=environ.get("PATH", os.defpath)):
            return found
    raise EvidenceError(
        "a PDF takes a Chromium, and there is none on PATH: install it (Debian: `apt-get install chromium`), name its path with "
        f"{CHROMIUM_VARIABLE}, or open the page in a browser and print it"
    )


def _complaint(command: Sequence[str], scratch: Path, environ: Mapping[str, str], timeout_s: float) -> str:
    """Run the browser to its end, and return the last line that it said.

    Raises:
        EvidenceError: it can't be started, or hangs.
    """
    # Not our whole environment: it may hold secrets, and what a desktop sets would change how it starts.
    private = {"PATH": environ.get("PATH", os.defpath), "HOME": str(scratch), "TMPDIR": str(scratch), "LANG": "C.UTF-8"}
    with (scratch / "stderr").open("w+", errors="replace") as complaints:
        try:
            process = subprocess.Popen(
                command, env=private, stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints, cwd=scratch, start_new_session=True
            )
        except OSError as error:
            raise EvidenceError(
                f"{command[0]} can't be started ({error.strerror}): name another program with {CHROMIUM_VARIABLE}"
            ) from error
        with _ended(process):
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise EvidenceError(
                    f"{command[0]} did not print the page within {timeout_s:g} s, and was ended: try again on a quieter host"
                ) from None
        complaints.seek(0)
        said = complaints.read().strip().splitlines()
    status = f"status {process.returncode}" if process.returncode else ""
    return str(redact("; ".join(filter(None, [status, said[-1] if said else ""])), secrets_of(environ)))


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the browser with all its processes, which form a group of their own, however it went."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
