"""What `runbook run` and `runbook verify` leave when they are told to stop, once or again and again: a result for each notebook."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.timeout(60)

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
SLOW_TO_END = """import time
try:
    time.sleep(100)
finally:
    time.sleep(1.5)"""
OPENED = "import runbook; book = runbook.open('test')"


def _write(folder: Path, name: str, *sources: str) -> None:
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n**Question.** Does it end?")]
    cells.append(nbformat.v4.new_code_cell("target = 'embedded'  # where", metadata={"tags": ["parameters"]}))
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    folder.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), folder / f"{name}.ipynb")


def _is_slow(line: str) -> bool:
    """Tell whether a line of progress says that the cell before the last one has begun, which takes long."""
    found = re.search(r"cell (\d+) of (\d+)", line)
    return found is not None and int(found[1]) == int(found[2]) - 1


def _below(folder: Path) -> list[int]:
    """List the ids of all processes that were given this folder for their temporary files, or work below it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={folder}".encode() in (path / "environ").read_bytes() or os.readlink(path / "cwd").startswith(f"{folder}/"):
                found.append(int(path.name))
    return found


@pytest.mark.parametrize(
    ("command", "number", "pauses_s"),
    [
        pytest.param(("run", "first"), signal.SIGTERM, (0.3,), id="run, by SIGTERM twice"),
        pytest.param(("verify",), signal.SIGINT, (), id="verify, by Ctrl-C once", marks=pytest.mark.nightly),
        pytest.param(("verify",), signal.SIGINT, (0.0, 0.05, 0.5, 0.5), id="verify, by Ctrl-C five times"),
    ],
)
def test_each_notebook_that_is_interrupted_leaves_a_result(
    command: Sequence[str], pauses_s: Sequence[float], number: signal.Signals, tmp_path: Path
) -> None:
    books, runs, scratch = (tmp_path / name for name in ("books", "runs", "scratch"))
    scratch.mkdir()
    for name in ("first", "second"):
        _write(books, name, OPENED, SLOW_TO_END, "book.verdict()")
    arguments = [sys.executable, "-m", "runbook", *command, "--notebooks", str(books), "--runs", str(runs)]
    with subprocess.Popen(
        arguments, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        begun, awaited = "", {"first", "second"} if command == ("verify",) else {"first"}
        while awaited:
            line = process.stdout.readline()
            assert line, begun
            begun += line
            awaited -= {name for name in awaited if name in line and _is_slow(line)}
        process.send_signal(number)
        for pause_s in pauses_s:
            time.sleep(pause_s)
            process.send_signal(number)
        said, complained = process.communicate(timeout=40)
    assert process.returncode == 130, said + complained
    assert "Traceback" not in complained
    results = [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json")) if path.parent.name != "latest"]
    notebooks = [result for result in results if result["kind"] == "notebook"]
    assert [result["notebook"] for result in notebooks] == (["first", "second"] if command == ("verify",) else ["first"])
    for result in notebooks:
        assert (result["verdict"], result["broken"], result["interrupted"]) == (None, "it was interrupted", True)
        assert result["started_utc"] <= result["finished_utc"]
        assert (result["target"], result["parameters"]) == ("embedded", {"target": "embedded"})
        assert result["host"]["cpus"] >= 1
        assert result["versions"]["redis"]
    assert len(list(runs.glob("2*-*"))) == len(results)
    assert _below(scratch) == []
    assert list(scratch.iterdir()) == []


def test_what_had_not_begun_leaves_nothing(tmp_path: Path) -> None:
    books, runs = tmp_path / "books", tmp_path / "runs"
    _write(books, "begun", OPENED, SLOW_TO_END, "book.verdict()")
    _write(books, "measures", OPENED, "book.verdict()")
    quiet = nbformat.read(books / "measures.ipynb", as_version=4)
    quiet["metadata"]["runbook"] = {"pace": "measures"}
    nbformat.write(quiet, books / "measures.ipynb")
    arguments = [sys.executable, "-m", "runbook", "verify", "--notebooks", str(books), "--runs", str(runs)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        while not _is_slow(process.stdout.readline()):
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)
    assert process.returncode == 130
    assert [path.name.partition("-")[2] for path in sorted(runs.glob("2*"))] == ["begun", "verify"]
