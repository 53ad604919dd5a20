"""A planted password stands in nothing that a run leaves, prints or tells the process list, whatever the notebook does with it."""

import base64
import gzip
import html
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import nbformat
import pytest

from cachelib import connect
from runbook.evidence.archive import Archive
from runbook.notebooks import FOLDER
from runbook.targets import Embedded
from tests.e2e.leaks import forms_in, leaks_in

pytestmark = pytest.mark.timeout(120)

PASSWORD = "p%C3@ss/wörd+\"&<'x"
RAW = PASSWORD.encode()

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
# Each puts the password where a careless author might.
OPENED = "import base64, html, json, os, redis, runbook; from urllib.parse import quote; book = runbook.open('test', target=target)"
TAKEN = "password = book.target.config.password.reveal()"
URL = "url = f\"redis://bot:{quote(password, safe='')}@{book.target.config.host}/0\""
TELLS = (
    OPENED,
    TAKEN,
    URL,
    "print(dict(os.environ)); print(repr(book.target.config), url, quote(url), password)",
    "print(base64.b64encode(f'default:{password}'.encode()).decode(), base64.urlsafe_b64encode(url.encode()), password.encode().hex())",
    "print(json.dumps(password), ascii(password), repr(password.encode()), repr(password.encode('latin-1')), html.escape(password))",
    "from cachelib import connect; client = connect(book.target.config); print(client.config_get('requirepass'))",
    "print(client.execute_command('ACL', 'LIST'))",
    "import logging; logging.warning('AUTH %s', password)",
    "{'a dictionary': {password: [url]}}",
    "from IPython.display import HTML; HTML(f'<td title=\"{html.escape(password)}\">{html.escape(repr(password))}</td>')",
    "book.show(runbook.setup.check_health(book.target))",
    "book.verdict()",
)
BOOKS = {
    "tells": TELLS,
    "raises": (OPENED, TAKEN, URL, "raise RuntimeError(f'{url} is out of reach, as is {password!r}')"),
    "raises-bytes": (OPENED, TAKEN, "{}[password.encode()]"),
    "kernel-dies": (OPENED, TAKEN, "print(password); import signal; os.kill(os.getpid(), signal.SIGKILL)", "book.verdict()"),
    "worker-dies": (OPENED, TAKEN, "print(password, flush=True)", "os.kill(os.getppid(), 9); import time; time.sleep(5)", "book.verdict()"),
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Embedded]:
    """A server that asks for the password, which its command line does not tell."""
    with Embedded({"PATH": os.environ["PATH"]}) as server:
        with connect(server.config) as client:
            client.config_set("requirepass", PASSWORD)
        yield server


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("books")
    for name, sources in BOOKS.items():
        cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n**Question.** Does it leak?")]
        cells.append(nbformat.v4.new_code_cell("target = 'embedded'  # where", metadata={"tags": ["parameters"]}))
        cells += [nbformat.v4.new_code_cell(source) for source in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), folder / f"{name}.ipynb")
    shutil.copy(FOLDER / "setup.ipynb", folder)
    return folder


@pytest.fixture
def few_books(books: Path, tmp_path: Path) -> Path:
    """Those that suffice to tell whether a password that was given in another way is known."""
    (tmp_path / "books").mkdir()
    for name in ("setup", "tells", "raises"):
        shutil.copy(books / f"{name}.ipynb", tmp_path / "books")
    return tmp_path / "books"


def _by_variable(server: Embedded, folder: Path) -> dict[str, str]:
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.config.port), "REDIS_PASSWORD": PASSWORD}


def _by_file(server: Embedded, folder: Path) -> dict[str, str]:
    (folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.config.port), "REDIS_PASSWORD_FILE": str(folder / "password")}


def _by_url(server: Embedded, folder: Path) -> dict[str, str]:
    return {"REDIS_URL": f"redis://default:{quote(PASSWORD, safe='').replace('%2F', '%2f')}@127.0.0.1:{server.config.port}/0"}


Given = Callable[[Embedded, Path], dict[str, str]]


def _run(*arguments: str, environ: Mapping[str, str]) -> tuple[subprocess.CompletedProcess[bytes], bytes]:
    """Run a command, and return what became of it, and every command line that there was meanwhile on this host."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    try:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
        command = [sys.executable, "-m", "runbook", *arguments]
        done = subprocess.run(command, env={**plain, **environ}, capture_output=True, timeout=100, check=False)
    finally:
        ended.set()
        looking.join()
    return done, b"\n".join(seen)


def test_no_artefact_no_output_and_no_command_line_holds_the_password(guarded: Embedded, books: Path, tmp_path: Path) -> None:
    results = _verified(_by_variable(guarded, tmp_path), books, tmp_path / "runs")
    assert "KeyError" in results["raises-bytes"]["broken"]
    assert "the kernel died" in results["kernel-dies"]["broken"]
    assert results["worker-dies"]["broken"]


@pytest.mark.parametrize("given", [pytest.param(_by_file, id="file", marks=pytest.mark.nightly), pytest.param(_by_url, id="URL")])
def test_nor_does_any_if_the_password_is_given_in_another_way(given: Given, guarded: Embedded, few_books: Path, tmp_path: Path) -> None:
    _verified(given(guarded, tmp_path), few_books, tmp_path / "runs")


def _verified(environ: Mapping[str, str], books: Path, runs: Path) -> dict[str, dict[str, Any]]:
    """Verify, look for the password everywhere, and return the results by their notebooks."""
    done, commands = _run("verify", "--target", "remote", "--notebooks", str(books), "--runs", str(runs), environ=environ)
    assert done.returncode == 4, done.stdout + done.stderr
    results = {path.parent.name.partition("-")[2]: json.loads(path.read_text()) for path in runs.glob("2*/result.json")}
    assert results["setup"]["verdict"] == "PASS"
    assert results["tells"]["verdict"] == "PASS", results["tells"]["broken"]
    assert "RuntimeError" in results["raises"]["broken"]
    assert results["setup"]["configuration"]["client"]["password"] == "'********'"
    told = (runs / results["tells"]["run"] / "notebook.ipynb").read_text(encoding="utf-8")
    assert told.count("********") >= 15, "it was told, and masked"
    Archive(runs, environ).append("run", "tells", {"name": f"told {PASSWORD}", "broken": results["raises"]["broken"]})
    assert leaks_in(runs, PASSWORD) == []
    assert forms_in(done.stdout + done.stderr, PASSWORD) == []
    assert b"runbook.worker" in commands
    assert forms_in(commands, PASSWORD) == []
    return results


def test_a_load_tells_no_password(guarded: Embedded, tmp_path: Path) -> None:
    written = tmp_path / "written"
    written.mkdir()
    told = ("load", "--target", "remote", "--duration-s", "0.5", "--runs", str(written), "--hgrm", str(written / "load.hgrm"))
    environ = _by_variable(guarded, tmp_path)
    done, commands = _run(*told, environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    refused, more = _run(*told, environ={**environ, "REDIS_PASSWORD": PASSWORD + "y"})
    assert refused.returncode != 0
    assert leaks_in(written, PASSWORD) == []
    for said in (done.stdout, done.stderr, refused.stdout, refused.stderr, commands, more):
        assert forms_in(said, PASSWORD) == []


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    )


PICTURE = _png((b"IHDR", bytes(13)), (b"zTXt", b"Comment\0\0" + zlib.compress(RAW)), (b"IEND", b""))
KNOWN_BAD: dict[str, bytes] = {
    "raw": RAW,
    "Latin-1": PASSWORD.encode("latin-1"),
    "a half of it": RAW[-10:],
    "percent": quote(PASSWORD, safe="").encode(),
    "percent, in small letters": quote(PASSWORD, safe="").replace("%C3%B6", "%c3%b6").replace("%2F", "%2f").encode(),
    "percent, twice": quote(quote(PASSWORD, safe=""), safe="").encode(),
    "form": quote_plus(PASSWORD).encode(),
    "base64": base64.b64encode(RAW),
    "base64, a byte later": base64.b64encode(b"x" + RAW + b"y"),
    "base64, two bytes later": base64.b64encode(b"xy" + RAW),
    "base64 of user and password": b"Authorization: Basic " + base64.b64encode(b"default:" + RAW),
    "base64 for URLs, without padding": base64.urlsafe_b64encode(b"x" + RAW).rstrip(b"="),
    "base64 of a URL": base64.b64encode(f"redis://:{quote(PASSWORD, safe='')}@h".encode()),
    "base64 in a URL": quote(base64.b64encode(RAW), safe="").encode(),
    "hexadecimal": RAW.hex().encode(),
    "HEXADECIMAL": RAW.hex().upper().encode(),
    "JSON": json.dumps(PASSWORD).encode(),
    "JSON in JSON": json.dumps(json.dumps(PASSWORD)).encode(),
    "repr": repr(PASSWORD).encode(),
    "repr of bytes": repr(RAW).encode(),
    "HTML": html.escape(PASSWORD).encode(),
    "HTML with numbers": "".join(f"&#{ord(character)};" for character in PASSWORD).encode(),
    "HTML of a repr": html.escape(repr(PASSWORD)).encode(),
    "text of a picture": PICTURE,
    "text of a picture in a notebook": base64.b64encode(PICTURE),
}


@pytest.mark.parametrize("written", KNOWN_BAD.values(), ids=KNOWN_BAD)
def test_the_scanner_finds_each_form_in_a_file_and_in_what_is_packed(written: bytes, tmp_path: Path) -> None:
    clean = b'{"verdict": "PASS", "n": "********"}\n'
    (tmp_path / "clean.json").write_bytes(clean)
    assert leaks_in(tmp_path, PASSWORD) == []
    (tmp_path / "plain").write_bytes(written if written.startswith(b"\x89PNG") else clean + written + clean)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(written))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", written)
    found = leaks_in(tmp_path, PASSWORD)
    names = {leak.partition(":")[0] for leak in found}
    assert names >= ({"plain"} if written.startswith(b"\x89PNG") else {"plain", "packed.gz", "packed.zip"}), found


def test_the_scanner_reads_the_rows_of_a_data_base(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "history.sqlite3") as connection:
        connection.execute("CREATE TABLE entry (content)")
        connection.execute("INSERT INTO entry VALUES (?)", ("x" * 5000 + PASSWORD,))
    connection.close()
    assert any("rows," in leak for leak in leaks_in(tmp_path, PASSWORD))
