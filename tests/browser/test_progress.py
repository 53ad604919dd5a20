"""Progress in a real JupyterLab, in nbval and in plain papermill: one line that is replaced, and no trace of it in the end."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page

SECRET = "for-this-test"
CELL = """from time import sleep
from runbook.progress import progress
for number in range(1, 5):
    progress(f"outage {number} of 4")
    sleep(0.9)
"the result"
"""
BIN = Path(sys.executable).parent


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL, id="work")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    book.cells[0].execution_count = 1
    result = nbformat.v4.new_output("execute_result", {"text/plain": "'the result'"}, execution_count=1)
    book.cells[0].outputs = [result]
    nbformat.write(book, tmp_path / "work.ipynb")
    return tmp_path / "work.ipynb"


def _environ(folder: Path) -> dict[str, str]:
    private = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    return {**os.environ, **private, "JUPYTER_PREFER_ENV_PATH": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}


def _outputs(path: Path) -> list[Any]:
    return list(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["outputs"])


@contextlib.contextmanager
def _lab(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--ServerApp.port_retries=0", "--no-browser", f"--IdentityProvider.token={SECRET}", "--allow-root"]
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(
            [BIN / "jupyter-lab", *options, f"--notebook-dir={folder}"], env=_environ(folder), stdout=log, stderr=log
        )
        try:
            until_s = time.monotonic() + 30
            while time.monotonic() < until_s and process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/lab/tree/work.ipynb?token={SECRET}"
        finally:
            process.terminate()
            process.wait(20)


def _lines(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".jp-OutputArea-output").all_inner_texts() if text.strip()]


@pytest.mark.nightly  # 13 s on two idle cores, 18 s where others are at work
def test_in_jupyterlab_one_line_is_replaced_and_gone_at_the_end(browser: Browser, notebook: Path) -> None:
    with _lab(notebook.parent) as address:
        page = browser.new_page()
        page.set_default_timeout(40_000)
        page.goto(address)
        page.locator(".jp-Notebook .jp-CodeCell").wait_for()
        page.get_by_text("| Idle").wait_for()  # a cell that is run before is not queued
        page.locator(".jp-CodeCell .cm-content").click()
        page.keyboard.press("Control+Enter")
        seen = []
        page.get_by_text("outage 2 of 4", exact=True).or_(page.get_by_text("outage 3 of 4", exact=True)).wait_for()
        while "'the result'" not in (lines := _lines(page)):
            seen.append(lines)
            page.wait_for_timeout(100)
        shown = [lines for lines in seen if lines]
        assert all(len(lines) == 1 for lines in shown), "one line, which is replaced"
        assert {"outage 3 of 4", "outage 4 of 4"} <= {line for lines in shown for line in lines}
        assert not any("outage 1" in line for lines in shown for line in lines), "quiet in the first two seconds"
        page.wait_for_timeout(200)
        assert _lines(page) == ["'the result'"]
        page.keyboard.press("Control+s")
        page.locator(".jp-mod-dirty").wait_for(state="detached")
        page.wait_for_timeout(500)
        assert "outage" not in json.dumps(_outputs(notebook))
        page.close()


def test_nbval_does_not_see_it(notebook: Path) -> None:
    before = notebook.read_bytes()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", "--nbval", notebook]
    done = subprocess.run(
        command, env=_environ(notebook.parent), cwd=notebook.parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    assert notebook.read_bytes() == before


@pytest.mark.nightly  # the same message as for nbval
def test_plain_papermill_keeps_no_text_of_it(notebook: Path) -> None:
    output = notebook.parent / "out.ipynb"
    subprocess.run([BIN / "papermill", notebook, output], env=_environ(notebook.parent), capture_output=True, timeout=60, check=True)
    assert [each["data"] for each in _outputs(output)] == [{}, {"text/plain": ["'the result'"]}]
