"""A PDF when the browser is missing, crashes, hangs or lies, with programs that stand in for it; a real one: tests/browser."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runbook.evidence.store import PAGE, EvidenceError
from runbook.report.pdf import CHROMIUM_VARIABLE, PROGRAMS, find_chromium, print_run

HTML = '<a class="x" href="../other/index.html">run</a> <a href="#id">id</a> <a href="https://redis.io/">redis</a>'

# Does what a browser does: writes where it is told to.
PRINTS = """for each; do case $each in --print-to-pdf=*) file=${each#*=};; file:*) page=${each#file://};; esac; done
{ echo %PDF-1.4; cat "$page"; env; } >"$file"
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "20260101T000000Z-setup"
    folder.mkdir(parents=True)
    (folder / PAGE).write_text("a stored page, which may have been altered")
    return folder


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Put a program on a PATH of its own, which holds the shell's as well, and return that environment."""

    def install(script: str, name: str = "chromium") -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)
        return {"PATH": f"{folder}:/usr/bin:/bin", CHROMIUM_VARIABLE: str(program)}

    return install


class TestFinding:
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_it_is_found_by_each_name_that_it_goes_by(self, name: str, chromium: Callable[..., dict[str, str]], tmp_path: Path) -> None:
        chromium(PRINTS, name)
        assert find_chromium({"PATH": str(tmp_path / "bin")}) == str(tmp_path / "bin" / name)

    def test_where_there_is_none_the_error_says_what_to_install(self, run: Path, tmp_path: Path) -> None:
        with pytest.raises(EvidenceError, match="apt-get install chromium"):
            print_run(run, HTML, {"PATH": str(tmp_path)})

    def test_a_named_program_that_is_none_is_not_replaced_by_another(self, chromium: Callable[..., dict[str, str]]) -> None:
        with pytest.raises(EvidenceError, match=f"{CHROMIUM_VARIABLE} names /no/such"):
            find_chromium({**chromium(PRINTS), CHROMIUM_VARIABLE: "/no/such"})


class TestPrinting:
    def test_it_goes_beside_the_run_folder_whose_manifest_covers_every_file(
        self, run: Path, chromium: Callable[..., dict[str, str]]
    ) -> None:
        assert print_run(run, HTML, chromium(PRINTS)) == run.parent / "20260101T000000Z-setup.pdf"
        assert [path.name for path in run.iterdir()] == [PAGE]

    def test_it_goes_where_it_is_told_to(self, run: Path, chromium: Callable[..., dict[str, str]], tmp_path: Path) -> None:
        assert print_run(run, HTML, chromium(PRINTS), tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")

    def test_links_that_would_tell_a_path_of_this_machine_are_text_and_the_others_stay(
        self, run: Path, chromium: Callable[..., dict[str, str]]
    ) -> None:
        printed = print_run(run, HTML, chromium(PRINTS)).read_text()
        assert '<a class="x">run</a> <a href="#id">id</a> <a href="https://redis.io/">redis</a>' in printed

    def test_the_browser_is_told_no_secret(self, run: Path, chromium: Callable[..., dict[str, str]]) -> None:
        assert "hunter2-hunter2" not in print_run(run, HTML, {**chromium(PRINTS), "REDIS_PASSWORD": "hunter2-hunter2"}).read_text()

    def test_its_scratch_folder_is_removed(
        self, run: Path, chromium: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "runs"))
        print_run(run, HTML, chromium(PRINTS))
        assert not list(tmp_path.glob("runs/runbook-pdf-*"))


class TestTrouble:
    def test_a_crash_is_an_error_with_what_the_browser_said_and_without_a_secret(
        self, run: Path, chromium: Callable[..., dict[str, str]]
    ) -> None:
        environ = {**chromium("echo 'No usable sandbox! hunter2-hunter2' >&2; exit 7"), "REDIS_PASSWORD": "hunter2-hunter2"}
        with pytest.raises(EvidenceError, match=r"status 7; No usable sandbox! \*+\)"):
            print_run(run, HTML, environ)

    @pytest.mark.parametrize("script", ["exit 0", PRINTS.replace("%PDF", "oops")])
    def test_a_success_without_a_pdf_is_none(self, script: str, run: Path, chromium: Callable[..., dict[str, str]]) -> None:
        with pytest.raises(EvidenceError, match="printed no page"):
            print_run(run, HTML, chromium(script))
        assert not list(run.parent.glob("*.pdf"))

    def test_a_browser_that_hangs_is_ended_with_all_that_it_started(
        self, run: Path, chromium: Callable[..., dict[str, str]], tmp_path: Path, eventually: Callable[..., bool]
    ) -> None:
        started = tmp_path / "pid"
        with pytest.raises(EvidenceError, match=r"within 2 s"):
            print_run(run, HTML, chromium(f"sleep 600 & echo $! >{started}; wait"), timeout_s=2)
        eventually(lambda: not _is_alive(int(started.read_text())))  # a signal takes effect when the process is next scheduled

    def test_a_program_that_cannot_be_started_is_an_error(self, run: Path, chromium: Callable[..., dict[str, str]], tmp_path: Path) -> None:
        environ = chromium(PRINTS)
        Path(environ[CHROMIUM_VARIABLE]).write_text("#!/no/such/shell\n")
        with pytest.raises(EvidenceError, match="can't be started"):
            print_run(run, HTML, environ)

    @pytest.mark.parametrize("file", ["no-such-folder/page.pdf", "runs", "runs/20260101T000000Z-setup/page.pdf"])
    def test_a_file_that_cannot_be_written_is_said_before_the_browser_starts(
        self, file: str, run: Path, chromium: Callable[..., dict[str, str]], tmp_path: Path
    ) -> None:
        with pytest.raises(EvidenceError, match="name a file"):
            print_run(run, HTML, chromium("exit 7"), tmp_path / file)


def _is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits for its new parent, a zombie, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
